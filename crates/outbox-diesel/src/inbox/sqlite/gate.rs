//! Who may write: one after the other, in the order in which they came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use outbox_core::ports::{StorageError, StorageErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{is_busy, statement_error};

/// The writers of one storage. Without it they would meet in SQLite, where who waits only looks now and then whether the lock is free, and
/// who comes at the right moment has it.
#[derive(Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
}

/// The right to write, until it is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

/// How long SQLite waits for writers of other programs before it is asked again. It looks ever more rarely, up to ten times a second, and would hardly ever
/// get between the transactions of a program that is busy.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for the right to write, and says until when SQLite's lock may be waited for. Dropping the future gives up the place in the queue.
    pub(super) async fn enter(&self, what: &str, limit: Duration) -> Result<(Permit, Instant), StorageError> {
        let deadline = Instant::now() + limit;
        match tokio::time::timeout(limit, self.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok((permit, deadline)),
            Ok(Err(closed)) => {
                let message = format!("cannot {what}: the storage is closed");
                Err(StorageError::new(StorageErrorKind::Unavailable, message).with_source(closed))
            }
            Err(_) => {
                let ms = limit.as_millis();
                let message =
                    format!("cannot {what}: other transactions of this program held the write lock for {ms} ms");
                Err(StorageError::new(StorageErrorKind::Conflict, message))
            }
        }
    }
}

/// Begins a transaction with SQLite's write lock, which other programs may have until the deadline. Gives up when `caller`'s other end is gone.
pub(super) fn begin(
    sqlite: &mut SqliteConnection,
    what: &str,
    deadline: Instant,
    caller: &oneshot::Sender<()>,
) -> Result<(), StorageError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let begun = wait_for_locks(sqlite, left.min(LOOK_EVERY))
            .and_then(|()| AnsiTransactionManager::begin_transaction_sql(sqlite, "BEGIN IMMEDIATE"));
        match begun {
            Err(error) if is_busy(&error) && !left.is_zero() && !caller.is_closed() => {}
            begun => return begun.map_err(|error| statement_error(what, error)),
        }
    }
}

/// How long statements wait for a lock of others.
pub(super) fn wait_for_locks(sqlite: &mut SqliteConnection, limit: Duration) -> diesel::QueryResult<()> {
    let ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    sqlite.batch_execute(&format!("PRAGMA busy_timeout = {ms}"))
}
