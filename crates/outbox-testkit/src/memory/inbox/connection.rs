use std::time::Duration;

use outbox_core::inbox::Consumer;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::locks::{Mode, Row};
use super::tables::Change;
use super::{MemoryInbox, OpenTransaction};

/// What a handler gets: the open transaction, to write through.
#[derive(Debug)]
pub struct MemoryConnection {
    pub(super) open: OpenTransaction,
    pub(super) consumer: Consumer,
    pub(super) changes: Vec<Change>,
    /// The database has ended the transaction that the inbox began; what comes after is in another.
    pub(super) is_ruined: bool,
    is_lost: bool,
    lock_limit: Duration,
}

/// A statement of a handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryInboxError {
    /// Another transaction waits for this one; the whole transaction was rolled back.
    #[error("deadlock found, the transaction was rolled back")]
    Deadlock,
    /// A lock was not free in time.
    #[error("lock time-out")]
    LockTimeOut,
    /// The database was made unavailable, or the connection is lost.
    #[error("the in-memory database was made unavailable, or the connection is lost")]
    Unavailable,
}

impl MemoryInboxError {
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Deadlock | Self::LockTimeOut)
    }
}

impl From<MemoryInboxError> for StorageError {
    fn from(error: MemoryInboxError) -> Self {
        let kind = if error.is_conflict() { StorageErrorKind::Conflict } else { StorageErrorKind::Unavailable };
        Self::new(kind, "the statement failed").with_source(error)
    }
}

impl MemoryConnection {
    pub(super) fn new(open: OpenTransaction, consumer: Consumer, lock_limit: Duration) -> Self {
        Self { open, consumer, changes: Vec::new(), is_ruined: false, is_lost: false, lock_limit }
    }

    /// Writes a line; see [`MemoryInbox::effects`].
    ///
    /// # Errors
    ///
    /// [`MemoryInboxError::Unavailable`].
    ///
    /// # Cancellation
    ///
    /// Safe: never waits.
    pub async fn write(&mut self, effect: impl Into<String>) -> Result<(), MemoryInboxError> {
        self.connected()?;
        self.changes.push(Change::Effect(effect.into()));
        Ok(())
    }

    /// Adds to a row, which stays locked until the end of the transaction; see [`MemoryInbox::value_of`].
    ///
    /// # Errors
    ///
    /// [`MemoryInboxError`]; after a deadlock nothing of the transaction is left.
    ///
    /// # Cancellation
    ///
    /// As a database's: the transaction is to be dropped.
    pub async fn add(&mut self, row: &str, by: i64) -> Result<(), MemoryInboxError> {
        self.connected()?;
        self.lock(&Row::Own(row.to_owned()), Mode::Exclusive).await?;
        self.changes.push(Change::Own(row.to_owned(), by));
        Ok(())
    }

    /// Ends the transaction behind the inbox's back, as an error does that a handler swallows.
    pub fn ruin(&mut self) {
        self.changes.clear();
        self.is_ruined = true;
        self.open.restart();
    }

    /// Loses the connection, as a restart of the database does: nothing of the transaction is left, and nothing works any more.
    pub fn lose(&mut self) {
        self.ruin();
        self.is_lost = true;
    }

    pub(super) fn database(&self) -> &MemoryInbox {
        &self.open.database
    }

    pub(super) async fn lock(&mut self, row: &Row, mode: Mode) -> Result<(), MemoryInboxError> {
        let locked = tokio::time::timeout(self.lock_limit, self.open.lock(row, mode)).await;
        let locked = locked.unwrap_or(Err(MemoryInboxError::LockTimeOut));
        if locked == Err(MemoryInboxError::Deadlock) {
            self.ruin();
        }
        locked
    }

    pub(super) fn connected(&self) -> Result<(), MemoryInboxError> {
        if self.is_lost {
            return Err(MemoryInboxError::Unavailable);
        }
        self.database().available().map(drop).map_err(|_| MemoryInboxError::Unavailable)
    }
}
