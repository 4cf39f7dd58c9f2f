//! Settings of a [`MysqlStorage`].

use std::path::PathBuf;
use std::time::Duration;

use outbox_core::order::MARGIN;
use outbox_core::ports::StorageError;

use super::connector::Connector;
use super::error::refused;
use super::storage::MysqlStorage;
use super::tls;
use super::url::MysqlUrl;
use crate::Tables;
use crate::migrations::Backend;

/// Builds a [`MysqlStorage`]. Nothing is connected before the first use.
pub struct MysqlStorageBuilder {
    url: String,
    tables: Tables,
    tls_root_ca: Option<PathBuf>,
    pool_size: usize,
    statement_timeout: Duration,
    visibility_margin: Duration,
}

impl MysqlStorageBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            tables: Tables::default(),
            tls_root_ca: None,
            pool_size: DEFAULT_POOL_SIZE,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            visibility_margin: MARGIN,
        }
    }

    /// Schema (a database on the same server) and table prefix. Default: the database of the URL, `outbox_`.
    pub fn tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// A PEM file with the CA that signed the server's certificate. Turns TLS on.
    pub fn tls_root_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_root_ca = Some(path.into());
        self
    }

    /// Connections for settles; 1 to 100, default 3. A reader has two of its own, leases and administration have four.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long the server may take for a statement; 100 ms to 10 min, default 30 s. Lease statements have 5 s at most. MySQL, unlike
    /// MariaDB, limits reads only; the relay itself stops waiting for the others.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long a row may take from the moment when the server drew its `seq` until it is in the table, committed or not: the longest
    /// time of an inserting statement, since InnoDB draws the `seq` of all its rows when it begins. 50 ms to 30 s, default 250 ms.
    ///
    /// Order rests on it, and only order: a row that takes longer is still delivered, perhaps after a later message of its key, and counts
    /// in `outbox_swept_total`. Raise it where others insert thousands of rows with one statement. Every read looks again at
    /// the rows of the last margin, and forgets them when it has passed.
    pub fn visibility_margin(mut self, margin: Duration) -> Self {
        self.visibility_margin = margin;
        self
    }

    /// The storage.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a value that cannot be used, naming it and what is
    /// allowed; never with the password.
    pub fn build(self) -> Result<MysqlStorage, StorageError> {
        if !(1..=100).contains(&self.pool_size) {
            return Err(refused(format!("pool_size {} is not within 1 to 100", self.pool_size)));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&self.statement_timeout) {
            return Err(refused(format!(
                "statement_timeout {} ms is not within 100 ms to 600,000 ms",
                self.statement_timeout.as_millis()
            )));
        }
        if !(Duration::from_millis(50)..=Duration::from_secs(30)).contains(&self.visibility_margin) {
            return Err(refused(format!(
                "visibility_margin {} ms is not within 50 ms to 30,000 ms",
                self.visibility_margin.as_millis()
            )));
        }
        let url = MysqlUrl::parse(&self.url)?;
        let tls = tls::options(&url, self.tls_root_ca.as_deref())?;
        let connector = Connector::new(&url, tls).with_database(self.tables.schema())?;
        let tables = self.tables.for_backend(Backend::Mysql);
        MysqlStorage::new(connector, tables, self.pool_size, self.statement_timeout, self.visibility_margin)
    }
}

/// One for the relay, one for another relay in the same process, and one to spare.
const DEFAULT_POOL_SIZE: usize = 3;

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

impl std::fmt::Debug for MysqlStorageBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlStorageBuilder")
            .field("tables", &self.tables)
            .field("tls_root_ca", &self.tls_root_ca)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .field("visibility_margin", &self.visibility_margin)
            .finish_non_exhaustive()
    }
}
