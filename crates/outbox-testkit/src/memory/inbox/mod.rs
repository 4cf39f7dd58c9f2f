//! A database of the inbox behind one mutex, with row locks, deadlocks and transactions.

mod admin;
mod connection;
mod fixture;
mod held;
mod locks;
mod remembered;
mod tables;
mod transaction;

pub use connection::{MemoryConnection, MemoryInboxError};
pub use transaction::MemoryInboxTransaction;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::inbox::{Consumer, HeldQueue, InboxAdmin, InboxMemory, InboxProfile, InboxStorage, TransactionLimits};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::storage::clock::Clock;
use locks::{Locks, Mode, Row, TransactionId};
use tables::Tables;

/// An inbox's storage in memory. Clones share one database.
///
/// Handlers get a [`MemoryConnection`]. Its clock follows tokio's, so paused time works, and can be stepped apart from it
/// ([`step_clock`](Self::step_clock)). Rows are locked as in a database at READ COMMITTED, and a deadlock ends the whole transaction.
#[derive(Debug, Clone)]
pub struct MemoryInbox {
    shared: Arc<Shared>,
    commits_unverified: bool,
    forgets_dead_letters: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rings when locks were given back. Wakes in the order of waiting, so that simulated runs replay.
    unlocked: Notify,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    tables: Tables,
    locks: Locks,
    unavailable: bool,
}

impl MemoryInbox {
    /// An empty database.
    pub fn new() -> Self {
        let state =
            State { clock: Clock::new(), tables: Tables::default(), locks: Locks::default(), unavailable: false };
        let shared = Shared { state: Mutex::new(state), unlocked: Notify::new() };
        Self { shared: Arc::new(shared), commits_unverified: false, forgets_dead_letters: false }
    }

    /// The same database through an adapter that commits whatever is left of a transaction that a deadlock has ended, as a storage would
    /// that does not read its rows back. Only to show what that does.
    pub fn that_commits_unverified(&self) -> Self {
        Self { commits_unverified: true, ..self.clone() }
    }

    /// The same database through an adapter whose purge removes identities of dead letters that are still there. Only to show what that does.
    pub fn that_forgets_dead_letters(&self) -> Self {
        Self { forgets_dead_letters: true, ..self.clone() }
    }

    /// What handlers wrote ([`MemoryConnection::write`]), in the order of the commits.
    pub fn effects(&self) -> Vec<String> {
        self.state().tables.effects.clone()
    }

    /// The value of a row of the handlers' own ([`MemoryConnection::add`]); 0 when there is none.
    pub fn value_of(&self, row: &str) -> i64 {
        self.state().tables.own.get(row).copied().unwrap_or_default()
    }

    /// How many messages are held, for whichever consumer.
    pub fn held_messages(&self) -> usize {
        self.state().tables.held.len()
    }

    /// The database's clock.
    pub fn now(&self) -> OffsetDateTime {
        self.state().clock.now()
    }

    /// Steps the database's clock, forward or back.
    pub fn step_clock(&self, by: time::Duration) {
        self.state().clock.step(by);
    }

    /// Makes every call of the ports fail with [`StorageErrorKind::Unavailable`], or stops doing so.
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

    fn open(&self) -> OpenTransaction {
        let id = self.state().locks.begin();
        OpenTransaction { database: self.clone(), id }
    }
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl InboxStorage for MemoryInbox {
    type Connection = MemoryConnection;
    type Transaction = MemoryInboxTransaction;

    async fn check(&self) -> Result<InboxProfile, StorageError> {
        drop(self.available()?);
        Ok(InboxProfile { server: "in memory".to_owned() })
    }

    async fn begin(
        &self,
        consumer: &Consumer,
        limits: &TransactionLimits,
    ) -> Result<MemoryInboxTransaction, StorageError> {
        drop(self.available()?);
        Ok(MemoryInboxTransaction::new(MemoryConnection::new(self.open(), consumer.clone(), limits.lock)))
    }

    fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        let chain = std::iter::successors(Some(error), |error| error.source());
        chain.filter_map(|error| error.downcast_ref::<MemoryInboxError>()).any(MemoryInboxError::is_conflict)
    }

    fn held(&self) -> &dyn HeldQueue {
        self
    }

    fn memory(&self) -> &dyn InboxMemory {
        self
    }

    fn admin(&self) -> &dyn InboxAdmin {
        self
    }
}

/// The locks of a transaction; given back when it is dropped.
#[derive(Debug)]
struct OpenTransaction {
    database: MemoryInbox,
    id: TransactionId,
}

impl OpenTransaction {
    /// Waits for a lock.
    async fn lock(&self, row: &Row, mode: Mode) -> Result<(), MemoryInboxError> {
        let database = self.database.clone();
        loop {
            let mut unlocked = pin!(database.shared.unlocked.notified());
            unlocked.as_mut().enable(); // what is unlocked from here on is heard
            if database.state().locks.try_lock(self.id, row, mode).map_err(|_| MemoryInboxError::Deadlock)? {
                return Ok(());
            }
            unlocked.await;
        }
    }

    /// Gives every lock back and goes on as another transaction.
    fn restart(&mut self) {
        let mut state = self.database.state();
        state.locks.end(self.id);
        self.id = state.locks.begin();
        drop(state);
        self.database.shared.unlocked.notify_waiters();
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        self.database.state().locks.end(self.id);
        self.database.shared.unlocked.notify_waiters();
    }
}
