//! Settings of a [`SqliteInbox`].

use std::path::Path;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::result::QueryResult;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::storage::SqliteInbox;
use crate::inbox::InboxTables;
use crate::sqlite::connection::file_of;
use crate::sqlite::worker::{OnConnect, Opener};

/// Builds a [`SqliteInbox`]. Nothing is opened before the first use.
pub struct SqliteInboxBuilder {
    file: Result<String, StorageError>,
    tables: InboxTables,
    lock_timeout: Duration,
    on_connect: Option<Box<OnConnect>>,
}

impl SqliteInboxBuilder {
    pub(super) fn new(path_or_url: &Path) -> Self {
        Self {
            file: file_of(path_or_url),
            tables: InboxTables::default(),
            lock_timeout: DEFAULT_LOCK_TIMEOUT,
            on_connect: None,
        }
    }

    /// The table prefix. Default `inbox_`. SQLite has no schemas.
    pub fn tables(mut self, tables: InboxTables) -> Self {
        self.tables = tables;
        self
    }

    /// How long a change outside of the handlers' transactions, whose limits the inbox sets, may wait for those that write; 10 ms to 10 min,
    /// default 30 s. Longer than the longest transaction.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Runs on every new connection, after the inbox's own settings: for instance a key of an encrypted database, or functions and collations that
    /// handlers use. Foreign keys are on in any case: the inbox guards its transactions with one.
    pub fn on_connect(
        mut self,
        hook: impl Fn(&mut SqliteConnection) -> QueryResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// The inbox's storage.
    ///
    /// # Errors
    ///
    /// [`Refused`](StorageErrorKind::Refused) for a database in memory, and for a value that cannot be used, naming it and what is allowed.
    pub fn build(self) -> Result<SqliteInbox, StorageError> {
        let refused = |problem: String| StorageError::new(StorageErrorKind::Refused, problem);
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(600));
        if !(min..=max).contains(&self.lock_timeout) {
            let (value, min, max) = (self.lock_timeout.as_millis(), min.as_millis(), max.as_millis());
            return Err(refused(format!("lock_timeout {value} ms is not within {min} ms to {max} ms")));
        }
        self.tables.names().clone().without_schema().map_err(|error| refused(error.to_string()))?;
        let migrate = "the migrations of outbox_diesel::inbox".to_owned();
        let opener = Opener { file: self.file?, on_connect: self.on_connect, migrate };
        Ok(SqliteInbox::new(opener, self.tables, self.lock_timeout))
    }
}

/// Half of what a call of the storage may take unless configured otherwise.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

impl std::fmt::Debug for SqliteInboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteInboxBuilder")
            .field("file", &self.file)
            .field("tables", &self.tables)
            .field("lock_timeout", &self.lock_timeout)
            .finish_non_exhaustive()
    }
}
