use std::time::Duration;

use async_trait::async_trait;
use outbox_core::ports::{Heartbeat, Lease, Leases, RelayId, StorageError};
use tokio::time::Instant;

use super::SimStorage;
use crate::simulation::database::micros;

#[async_trait]
impl Leases for SimStorage {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        let (id, asked_at) = (relay.clone(), Instant::now());
        let beat = move |state: &mut crate::simulation::world::State| {
            let now = state.clock();
            state.database.heartbeat(&id, micros(lease), accepting, now)
        };
        let heartbeat = self.client.call("heartbeat", beat).await?;
        self.leased(&heartbeat.held, asked_at + lease, "holds");
        Ok(heartbeat)
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        let (id, asked_at) = (relay.clone(), Instant::now());
        let take = move |state: &mut crate::simulation::world::State| {
            let now = state.clock();
            state.database.acquire(&id, micros(lease), limit, now)
        };
        let leases = self.client.call("acquire", take).await?;
        self.leased(&leases, asked_at + lease, "acquired");
        Ok(leases)
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        let (id, leases, number) = (relay.clone(), leases.to_vec(), self.client.relay);
        self.client.world.step(|state| {
            let shards = leases.iter().map(|lease| lease.shard).collect();
            state.note(|| format!("relay {number} releases {shards:?}"));
            state.ledger.gave_up(number, Some(shards));
        });
        self.client.call("release", move |state| state.database.release(&id, &leases)).await
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        let (id, number) = (relay.clone(), self.client.relay);
        self.client.world.step(|state| {
            state.note(|| format!("relay {number} resigns"));
            state.ledger.gave_up(number, None);
        });
        self.client.call("resign", move |state| state.database.resign(&id)).await
    }
}

impl SimStorage {
    fn leased(&self, leases: &[Lease], until: Instant, verb: &str) {
        self.client.world.step(|state| {
            state.ledger.leased(self.client.relay, leases.iter().map(|lease| lease.shard), until);
            state.note(|| {
                let shards: Vec<_> = leases.iter().map(|lease| (lease.shard.0, lease.epoch)).collect();
                format!("relay {} {verb} (shard, epoch) {shards:?}", self.client.relay)
            });
        });
    }
}
