//! The storage ports over the modelled database, one value for each relay's process. Every call is a request that
//! travels, takes effect and is answered, each at its own time; a caller that is gone does not undo it.

mod admin;
mod call;
mod leases;
mod reader;
mod settler;
mod sweep;
mod watching;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use outbox_core::order::Horizon;
use outbox_core::ports::{
    Admin, Leases, Notifier, ParkedKey, Reader, Settler, ShardId, Storage, StorageError, StorageProfile,
};

use super::scenario::OrderRule;
use super::world::World;
use call::Client;
use reader::SimReader;
use watching::WatchingReader;

pub(super) struct SimStorage {
    client: Client,
    shared: Arc<Shared>,
}

/// What the calls of one process share.
#[derive(Debug, Default)]
struct Shared {
    horizon: Mutex<Option<Horizon>>,
    /// The sequence's last value as the last returned read saw it.
    last_seq: Mutex<i64>,
    /// The first answer about parked keys of each shard; only used by a defect.
    first_parked: Mutex<Vec<(ShardId, Vec<ParkedKey>)>>,
}

impl SimStorage {
    pub(super) fn new(world: Arc<World>, relay: usize) -> Self {
        Self { client: Client { world, relay }, shared: Arc::default() }
    }
}

impl Shared {
    fn horizon(&self) -> Option<Horizon> {
        *self.horizon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, horizon: Horizon) {
        let mut known = self.horizon.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| horizon.next_xid > known.next_xid) {
            *known = Some(horizon);
        }
    }

    fn last_seq(&self) -> i64 {
        *self.last_seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw_seq(&self, last_seq: i64) {
        *self.last_seq.lock().unwrap_or_else(PoisonError::into_inner) = last_seq;
    }
}

#[async_trait]
impl Storage for SimStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        let shards = self.client.call("check", |state| state.database.shards()).await?;
        Ok(StorageProfile { shards, server: "simulated".to_owned() })
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        self.client.call("reader", |_| ()).await?;
        Ok(match self.client.world.scenario.order {
            OrderRule::Snapshots => Box::new(SimReader::new(self.client.clone(), self.shared.clone())),
            OrderRule::DirtyReads => Box::new(WatchingReader::new(self.client.clone())),
        })
    }

    fn leases(&self) -> &dyn Leases {
        self
    }

    fn settler(&self) -> &dyn Settler {
        self
    }

    fn admin(&self) -> &dyn Admin {
        self
    }

    async fn notifier(&self) -> Result<Option<Box<dyn Notifier>>, StorageError> {
        Ok(None)
    }
}
