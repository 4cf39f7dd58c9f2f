//! A storage behind one mutex.

mod admin;
pub(super) mod clock;
mod fixture;
mod leases;
mod reader;
mod settler;
mod tables;
mod transaction;

pub use transaction::MemoryTransaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::event::ToMessage;
use outbox_core::message::{InvalidMessage, Message};
use outbox_core::ports::{
    Admin, Leases, Notifier, Reader, Settler, Storage, StorageError, StorageErrorKind, StorageProfile,
};
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use clock::Clock;
use reader::MemoryReader;
use tables::Tables;

/// A storage in memory. Clones share one database.
///
/// Its clock follows tokio's, so paused time works, and can be stepped apart from it
/// ([`step_clock`](Self::step_clock)). A message gets its `seq` at the commit, so `seq` order is commit order.
#[derive(Debug, Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shards: u16,
    state: Mutex<State>,
    commits: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    tables: Tables,
    unavailable: bool,
}

impl MemoryStorage {
    /// An empty database with this many shards, at least one.
    pub fn new(shards: u16) -> Self {
        let shards = shards.max(1);
        let state = State { clock: Clock::new(), tables: Tables::new(shards), unavailable: false };
        Self { shared: Arc::new(Shared { shards, state: Mutex::new(state), commits: watch::Sender::new(()) }) }
    }

    /// Begins a transaction of a service.
    pub fn begin(&self) -> MemoryTransaction {
        MemoryTransaction::new(self.clone())
    }

    /// Appends in a transaction of its own and commits it; returns the message's id.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] when the message is over a limit.
    pub fn append(&self, item: &impl ToMessage) -> Result<Uuid, InvalidMessage> {
        let mut transaction = self.begin();
        let id = transaction.append(item)?;
        transaction.commit();
        Ok(id)
    }

    /// What is pending, by shard and `seq`.
    pub fn pending(&self) -> Vec<Message> {
        self.state().tables.messages.values().map(|row| row.message.clone()).collect()
    }

    /// The database's clock.
    pub fn now(&self) -> OffsetDateTime {
        self.state().clock.now()
    }

    /// Steps the database's clock, forward or back.
    pub fn step_clock(&self, by: time::Duration) {
        self.state().clock.step(by);
    }

    /// Makes every call of the storage's ports fail with [`StorageErrorKind::Unavailable`], or stops doing so.
    /// Transactions of services still commit.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.state().unavailable = unavailable;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn available(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.state();
        if state.unavailable {
            let message = "the in-memory database was made unavailable: call set_unavailable(false)";
            return Err(StorageError::new(StorageErrorKind::Unavailable, message));
        }
        Ok(state)
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        drop(self.available()?);
        Ok(StorageProfile { shards: self.shared.shards, server: "in memory".to_owned() })
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        drop(self.available()?);
        Ok(Box::new(MemoryReader::new(self.clone())))
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
        drop(self.available()?);
        Ok(Some(Box::new(CommitNotifier(self.shared.commits.subscribe()))))
    }
}

struct CommitNotifier(watch::Receiver<()>);

#[async_trait]
impl Notifier for CommitNotifier {
    async fn notified(&mut self) -> Result<(), StorageError> {
        self.0.changed().await.map_err(|error| {
            StorageError::new(StorageErrorKind::Unavailable, "the in-memory database is gone").with_source(error)
        })
    }
}
