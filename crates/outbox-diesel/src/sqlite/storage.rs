use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use diesel::SqliteConnection;
use diesel::result::QueryResult;
use outbox_core::ports::{
    Admin, Leases, Notifier, Reader, Settler, Storage, StorageError, StorageErrorKind, StorageProfile,
};

use super::admin::SqliteAdmin;
use super::check::check;
use super::connection::file_of;
use super::leases::SqliteLeases;
use super::reader::SqliteReader;
use super::settler::SqliteSettler;
use super::worker::{OnConnect, Opener, Worker};
use crate::Tables;

/// The outbox in a SQLite file, for the relay.
///
/// One shard, because SQLite has one writer: `seq` order is commit order. Reads, settles, leases and the operator's calls have a
/// connection each; they run on tokio's blocking threads. There are no wake-ups by the database: use the relay's nudge.
///
/// Every process must open the file as [`establish`](super::establish) does; `synchronous` below `FULL` can lose a
/// committed transaction whose event was published.
pub struct SqliteStorage {
    tables: Tables,
    checks: Worker,
    leases: SqliteLeases,
    settler: SqliteSettler,
    admin: SqliteAdmin,
}

/// Builds a [`SqliteStorage`].
pub struct SqliteStorageBuilder {
    file: Result<String, StorageError>,
    tables: Tables,
    on_connect: Option<Box<OnConnect>>,
}

impl SqliteStorage {
    /// Opens the outbox in a file that exists: a path, `sqlite:PATH`, `sqlite://PATH` or a `file:` URI.
    ///
    /// # Errors
    ///
    /// As [`SqliteStorageBuilder::connect`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn connect(path_or_url: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::builder(path_or_url).connect().await
    }

    /// Builds a storage with other tables or a hook for new connections.
    pub fn builder(path_or_url: impl AsRef<Path>) -> SqliteStorageBuilder {
        SqliteStorageBuilder { file: file_of(path_or_url.as_ref()), tables: Tables::default(), on_connect: None }
    }
}

impl SqliteStorageBuilder {
    /// Where the outbox tables are. Default: [`Tables::default`].
    pub fn tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// Runs on every new connection, after the outbox's own settings: for instance a key of an encrypted database, or limits.
    pub fn on_connect(
        mut self,
        hook: impl Fn(&mut SqliteConnection) -> QueryResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// The storage. Does no I/O: the file is opened by the first call.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Refused`] for a database in memory and for a schema in [`tables`](Self::tables).
    pub fn build(self) -> Result<SqliteStorage, StorageError> {
        let tables = self
            .tables
            .without_schema()
            .map_err(|error| StorageError::new(StorageErrorKind::Refused, error.to_string()))?;
        let file = self.file?;
        let migrate = format!("`outbox migrate up --database sqlite:{file}`");
        let checks = Worker::new(Arc::new(Opener { file, on_connect: self.on_connect, migrate }));
        Ok(SqliteStorage {
            leases: SqliteLeases::new(checks.another(), &tables),
            settler: SqliteSettler::new(checks.another(), &tables),
            admin: SqliteAdmin::new(checks.another(), &tables),
            tables,
            checks,
        })
    }

    /// The storage, with the file opened once to see that it can be. The schema is checked by [`Storage::check`].
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); [`StorageErrorKind::Unavailable`] when the file does not exist or cannot be opened;
    /// [`StorageErrorKind::Refused`] when it is no SQLite database.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn connect(self) -> Result<SqliteStorage, StorageError> {
        let storage = self.build()?;
        storage.checks.run("open the SQLite database", |_| Ok(())).await?;
        Ok(storage)
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        let tables = self.tables.clone();
        self.checks.try_run(move |conn| check(conn, &tables)).await
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        let worker = self.checks.another();
        worker.run("open the SQLite database", |_| Ok(())).await?;
        Ok(Box::new(SqliteReader::new(worker, &self.tables)))
    }

    fn leases(&self) -> &dyn Leases {
        &self.leases
    }

    fn settler(&self) -> &dyn Settler {
        &self.settler
    }

    fn admin(&self) -> &dyn Admin {
        &self.admin
    }

    async fn notifier(&self) -> Result<Option<Box<dyn Notifier>>, StorageError> {
        Ok(None)
    }
}

impl std::fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStorage").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SqliteStorageBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStorageBuilder").field("tables", &self.tables).finish_non_exhaustive()
    }
}
