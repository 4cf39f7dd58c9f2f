use std::sync::{Arc, Mutex, PoisonError};

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use diesel::result::QueryResult;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::{connection, storage_error};

/// What a user adds to every new connection of a storage.
pub(crate) type OnConnect = dyn Fn(&mut SqliteConnection) -> QueryResult<()> + Send + Sync;

/// Opens connections of one storage.
pub(crate) struct Opener {
    pub(crate) file: String,
    pub(crate) on_connect: Option<Box<OnConnect>>,
    /// What makes the tables, for people.
    pub(crate) migrate: String,
}

/// One connection, used on tokio's blocking threads by one call at a time.
///
/// A call runs to its end on its thread whatever becomes of its future, so a dropped future never leaves a transaction open
/// and never blocks the runtime. After an error the connection is closed, which rolls back what was open, and the next call opens
/// another.
#[derive(Clone)]
pub(crate) struct Worker {
    opener: Arc<Opener>,
    conn: Arc<Mutex<Option<SqliteConnection>>>,
}

impl Opener {
    pub(crate) fn open(&self) -> Result<SqliteConnection, StorageError> {
        if !self.file.starts_with("file:") && !std::path::Path::new(&self.file).exists() {
            return Err(StorageError::new(
                StorageErrorKind::Unavailable,
                format!("the SQLite database {} does not exist: run {}", self.file, self.migrate),
            ));
        }
        let mut conn = connection::open(&self.file)?;
        if let Some(on_connect) = &self.on_connect {
            on_connect(&mut conn).map_err(|error| storage_error("run the hook for new connections", error))?;
        }
        Ok(conn)
    }
}

impl Worker {
    pub(crate) fn new(opener: Arc<Opener>) -> Self {
        Self { opener, conn: Arc::default() }
    }

    /// Another connection to the same file.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.opener.clone())
    }

    /// Runs `work` in one write transaction. `action` completes "cannot …" in an error.
    ///
    /// Diesel's own transactions answer a full disk, on which SQLite rolls back by itself, with the failure of their second
    /// rollback and hide the cause. Here closing the connection rolls back.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.transaction("BEGIN IMMEDIATE", action, work).await
    }

    /// Runs `work` on one snapshot. `action` completes "cannot …" in an error.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.transaction("BEGIN", action, work).await
    }

    async fn transaction<T: Send + 'static>(
        &self,
        begin: &'static str,
        action: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(action, move |conn| {
            conn.batch_execute(begin)?;
            let value = work(conn)?;
            conn.batch_execute("COMMIT")?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` on the connection, outside of a transaction. `action` completes "cannot …" in an error.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.try_run(move |conn| work(conn).map_err(|error| storage_error(action, error))).await
    }

    /// As [`run`](Self::run), for work that makes its own errors.
    pub(crate) async fn try_run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let Self { opener, conn } = self.clone();
        let call = tokio::task::spawn_blocking(move || {
            let mut place = conn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut conn = match place.take() {
                Some(conn) => conn,
                None => opener.open()?,
            };
            let result = work(&mut conn)?;
            *place = Some(conn);
            Ok(result)
        });
        call.await.unwrap_or_else(|error| {
            let kind = if error.is_cancelled() { StorageErrorKind::Unavailable } else { StorageErrorKind::Other };
            Err(StorageError::new(kind, "a call to SQLite did not end").with_source(error))
        })
    }
}
