//! Work beside the handlers' transactions: a connection that writes and one that reads.

use std::sync::Arc;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::result::QueryResult;
use outbox_core::ports::StorageError;
use tokio::sync::oneshot;

use super::error::statement_error;
use super::gate::{Gate, begin};
use crate::sqlite::worker::{Opener, Worker};

/// Runs work on connections of its own. A call that has begun to write runs to its end whatever becomes of its future.
#[derive(Clone)]
pub(super) struct Writer {
    gate: Gate,
    writes: Worker,
    reads: Worker,
    lock_timeout: Duration,
}

impl Writer {
    pub(super) fn new(opener: &Arc<Opener>, gate: Gate, lock_timeout: Duration) -> Self {
        let (writes, reads) = (Worker::new(opener.clone()), Worker::new(opener.clone()));
        Self { gate, writes, reads, lock_timeout }
    }

    /// Runs `work` in one write transaction. `what` completes "cannot …". An error closes the connection, which rolls back.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (permit, deadline) = self.gate.enter(what, self.lock_timeout).await?;
        let (caller, _here) = oneshot::channel();
        let call = self.writes.try_run(move |sqlite| {
            let _permit = permit;
            begin(sqlite, what, deadline, &caller)?;
            let done =
                work(sqlite).and_then(|value| AnsiTransactionManager::commit_transaction(sqlite).map(|()| value));
            done.map_err(|error| statement_error(what, error))
        });
        call.await
    }

    /// Runs `work` outside of a transaction. `what` completes "cannot …".
    pub(super) async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.reads.try_run(move |sqlite| work(sqlite).map_err(|error| statement_error(what, error))).await
    }
}
