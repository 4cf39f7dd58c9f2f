use std::time::Duration;

use async_trait::async_trait;

use super::{Consumer, HeldQueue, InboxAdmin, InboxMemory, InboxTransaction};
use crate::ports::StorageError;

/// A database that holds the inbox beside the tables that handlers change.
///
/// # Contract
///
/// One value serves several consumers and workers at once; each transaction has a connection of its own. A lost
/// connection is replaced by the adapter; the call that found it lost fails with
/// [`StorageErrorKind::Unavailable`](crate::ports::StorageErrorKind::Unavailable).
///
/// # Cancellation
///
/// Dropping the future of a method of the ports beside the transaction ([`HeldQueue`], [`InboxMemory`], [`InboxAdmin`]) leaves the database
/// either unchanged or changed as a whole, and the caller does not know which; each may be repeated.
#[async_trait]
pub trait InboxStorage: Send + Sync + 'static {
    /// What handlers get: the open connection, inside the transaction.
    type Connection: Send + 'static;
    /// What [`begin`](Self::begin) gives.
    type Transaction: InboxTransaction<Connection = Self::Connection> + 'static;

    /// Checks that the database can be used: the schema's version, the tables' collations, a writable server.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it cannot be reached, `Refused` when it must not be used as it is, with the fix in the message.
    async fn check(&self) -> Result<InboxProfile, StorageError>;

    /// Begins a transaction at READ COMMITTED (what the backend has instead) for one consumer, with these limits set *in the database*. Where only one
    /// transaction can write, it waits for the other.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: nothing has happened.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is left open.
    async fn begin(&self, consumer: &Consumer, limits: &TransactionLimits) -> Result<Self::Transaction, StorageError>;

    /// Whether an error that a handler returned says that another transaction was in the way (deadlock, serialization failure, lock
    /// time-out), looking through its sources: the message is then tried again without burning an attempt.
    fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool;

    /// Messages that the database keeps until they are processed.
    fn held(&self) -> &dyn HeldQueue;

    /// Positions and retention.
    fn memory(&self) -> &dyn InboxMemory;

    /// Dead letters and parked keys.
    fn admin(&self) -> &dyn InboxAdmin;
}

/// What [`InboxStorage::check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxProfile {
    /// The database's name and version, for logs.
    pub server: String,
}

/// Limits that the database itself keeps, where it can (PostgreSQL `statement_timeout` and `lock_timeout`, MySQL `innodb_lock_wait_timeout` and
/// for queries `max_execution_time` or `max_statement_time`, SQLite `busy_timeout`), whole seconds where it counts in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionLimits {
    /// The longest time that one statement may take.
    pub statement: Duration,
    /// The longest wait for a lock.
    pub lock: Duration,
}
