//! One transaction on one connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel::result::QueryResult;
use outbox_core::ports::{StorageError, StorageErrorKind};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::connection::{GuardedConnection, SqliteInboxConnection};
use super::error::statement_error;
use super::gate::{Gate, Permit, begin, wait_for_locks};
use crate::sqlite::worker::Opener;

/// Where transactions come from. There is one at a time, so one connection is kept.
pub(super) struct Sessions {
    opener: Arc<Opener>,
    gate: Gate,
    idle: Arc<Mutex<Option<SqliteInboxConnection>>>,
}

/// An open transaction. Dropping it closes the connection, once the statement that runs on it has ended, and so rolls back.
pub(super) struct Session {
    connection: Option<SqliteInboxConnection>,
    idle: Arc<Mutex<Option<SqliteInboxConnection>>>,
}

impl Sessions {
    pub(super) fn new(opener: Arc<Opener>, gate: Gate) -> Self {
        Self { opener, gate, idle: Arc::default() }
    }

    /// Waits for other writers, `limit` at most, and begins.
    pub(super) async fn begin(&self, what: &'static str, limit: Duration) -> Result<Session, StorageError> {
        let (permit, deadline) = self.gate.enter(what, limit).await?;
        let (caller, _here) = oneshot::channel();
        let mut session = Session { connection: None, idle: self.idle.clone() };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connection = match idle {
            Some(connection) => connection,
            None => open(self.opener.clone()).await?,
        };
        session
            .connection
            .insert(connection)
            .spawn_blocking(move |connection| Ok(begun(connection, what, permit, deadline, limit, &caller)))
            .await
            .map_err(|error| statement_error(what, error))??;
        Ok(session)
    }
}

async fn open(opener: Arc<Opener>) -> Result<SqliteInboxConnection, StorageError> {
    const WHAT: &str = "open the SQLite database";
    let opened = tokio::task::spawn_blocking(move || {
        GuardedConnection::new(opener.open()?).map_err(|error| statement_error(WHAT, error))
    });
    let opened = opened.await.map_err(|error| {
        StorageError::new(StorageErrorKind::Unavailable, format!("cannot {WHAT}: the call did not end"))
            .with_source(error)
    })?;
    Ok(SqliteInboxConnection::new(opened?))
}

fn begun(
    connection: &mut GuardedConnection,
    what: &str,
    permit: Permit,
    deadline: Instant,
    limit: Duration,
    caller: &oneshot::Sender<()>,
) -> Result<(), StorageError> {
    connection.give_permit(permit);
    begin(connection.sqlite(), what, deadline, caller)?;
    wait_for_locks(connection.sqlite(), limit)
        .and_then(|()| connection.guard())
        .map_err(|error| statement_error(what, error))
}

impl Session {
    pub(super) fn connection(&mut self) -> &mut SqliteInboxConnection {
        self.connection.as_mut().expect("a session has its connection until it ends")
    }

    /// Does work within the transaction. `what` completes "cannot …".
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let call = self.connection().spawn_blocking(move |connection| {
            connection.expect_transaction()?;
            work(connection.sqlite())
        });
        call.await.map_err(|error| statement_error(what, error))
    }

    /// Does the last work, which ends the transaction or says that the connection is of no use.
    pub(super) async fn end<T: Send + 'static>(
        mut self,
        what: &'static str,
        work: impl FnOnce(&mut GuardedConnection) -> Result<(T, Rest), StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let call = self.connection().spawn_blocking(move |connection| {
            let done = work(connection);
            let permit = if matches!(done, Ok((_, Rest::Idle))) { connection.take_permit() } else { None };
            Ok((done, permit))
        });
        let (done, permit) = call.await.map_err(|error| statement_error(what, error))?;
        let (value, rest) = done?;
        if rest == Rest::Idle {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = self.connection.take();
        }
        drop(permit); // the next one finds the connection
        Ok(value)
    }
}

/// What a connection is worth after its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It can serve again.
    Idle,
    /// Nobody knows: it is closed, which rolls back.
    Lost,
}

/// Closing waits for the disk when it is the last connection to the file.
impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(connection))),
            Err(_) => drop(connection),
        }
    }
}
