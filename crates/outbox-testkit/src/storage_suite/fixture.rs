use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::message::NewMessage;
use outbox_core::ports::{ShardId, Storage};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::BoxError;

/// What the suite needs of an adapter: databases to try things in.
#[async_trait]
pub trait StorageFixture: Send + Sync {
    /// A new, empty, migrated database (or schema, or prefix) that nothing else uses.
    ///
    /// # Errors
    ///
    /// When there is none to be had, for instance because no server was given: the suite fails.
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError>;
}

/// One database. Every error fails the case that ran.
#[async_trait]
pub trait TestDatabase: Send + Sync {
    /// The storage under test, the same one at each call.
    fn storage(&self) -> Arc<dyn Storage>;

    /// Begins a transaction of a service. It must not share a connection with the storage. Where only one writer can
    /// be open, it (or the first append) waits until the other has ended.
    ///
    /// # Errors
    ///
    /// When it cannot begin.
    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError>;

    /// Whether two transactions with appends may be open at once. The suite checks the answer; with `true` it also runs
    /// the cases of late commits.
    fn concurrent_writers(&self) -> bool;

    /// The *database's* clock now.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    async fn now(&self) -> Result<OffsetDateTime, BoxError>;

    /// Every row of the messages table, in any order, not through the storage under test.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError>;

    /// Ends everything and drops the database. Called once, also after a failed case.
    ///
    /// # Errors
    ///
    /// When it cannot be dropped.
    async fn drop_database(self: Box<Self>) -> Result<(), BoxError>;
}

/// A transaction of a service. Dropping it rolls it back.
#[async_trait]
pub trait TestTransaction: Send {
    /// Appends a message, the way that services do: its row exists in the transaction, with its `seq`, when this returns,
    /// unless the storage gives `seq` at the commit.
    ///
    /// # Errors
    ///
    /// When the message cannot be appended. The suite appends valid messages only, with payloads of up to 1 MB.
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError>;

    /// Commits.
    ///
    /// # Errors
    ///
    /// When the commit fails.
    async fn commit(self: Box<Self>) -> Result<(), BoxError>;

    /// Rolls back.
    ///
    /// # Errors
    ///
    /// When the rollback fails.
    async fn rollback(self: Box<Self>) -> Result<(), BoxError>;
}

/// A row of the messages table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PendingRow {
    /// Its shard.
    pub shard: ShardId,
    /// Its enqueue number.
    pub seq: i64,
    /// The message's identity.
    pub id: Uuid,
    /// Failed attempts.
    pub attempts: u32,
}
