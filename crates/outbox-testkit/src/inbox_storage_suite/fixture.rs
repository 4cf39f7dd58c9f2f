use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::inbox::InboxStorage;
use time::OffsetDateTime;

use crate::BoxError;

/// What the suite needs of an adapter: databases to try things in.
#[async_trait]
pub trait InboxStorageFixture: Send + Sync {
    /// The storage under test.
    type Storage: InboxStorage;

    /// A new, empty, migrated database (or schema, or prefix) that nothing else uses, with a table of effects for
    /// [`apply`](InboxDatabase::apply) and one with two rows for [`touch`](InboxDatabase::touch).
    ///
    /// # Errors
    ///
    /// When there is none to be had, for instance because no server was given: the suite fails.
    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<Self::Storage>>, BoxError>;
}

/// One database. Every error fails the case that ran.
#[async_trait]
pub trait InboxDatabase<S: InboxStorage>: Send + Sync {
    /// The storage under test, the same one at each call.
    fn storage(&self) -> Arc<S>;

    /// Whether two transactions that write may be open at once. With `false`, [`InboxStorage::begin`] waits for the other one, and the suite leaves the cases
    /// out that need two.
    fn concurrent_transactions(&self) -> bool;

    /// What a handler does: inserts a row with this text into the table of effects.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    async fn apply(&self, connection: &mut S::Connection, effect: &str) -> Result<(), BoxError>;

    /// What a handler does that updates row `row` (0 or 1) of the other table, and so locks it.
    ///
    /// # Errors
    ///
    /// The error of the database as handlers get it: [`InboxStorage::is_conflict`] is asked about it.
    async fn touch(&self, connection: &mut S::Connection, row: u8) -> Result<(), BoxError>;

    /// What a handler does that swallows an error: ends the transaction in the way that this database does by itself, and says nothing. On PostgreSQL
    /// a statement that fails; on MySQL `ROLLBACK`, which is what a deadlock does; on SQLite `ROLLBACK`.
    async fn swallow_an_error(&self, connection: &mut S::Connection);

    /// The committed rows of the table of effects, sorted, by another connection.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    async fn effects(&self) -> Result<Vec<String>, BoxError>;

    /// Makes every dedup row this much older (`processed_at`).
    ///
    /// # Errors
    ///
    /// When the rows cannot be changed.
    async fn age(&self, by: time::Duration) -> Result<(), BoxError>;

    /// The *database's* clock now.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    async fn now(&self) -> Result<OffsetDateTime, BoxError>;

    /// Ends everything and drops the database. Called once, also after a failed case.
    ///
    /// # Errors
    ///
    /// When it cannot be dropped.
    async fn drop_database(self: Box<Self>) -> Result<(), BoxError>;
}
