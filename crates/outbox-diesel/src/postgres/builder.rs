//! Settings of a [`PostgresStorage`].

use std::path::PathBuf;
use std::time::Duration;

use outbox_core::ports::StorageError;

use super::connector::Connector;
use super::storage::PostgresStorage;
use super::tls::Tls;
use super::url::{PostgresUrl, refused};
use crate::Tables;

/// Builds a [`PostgresStorage`]. Nothing is connected before the first use.
pub struct PostgresStorageBuilder {
    url: String,
    tables: Tables,
    tls_root_ca: Option<PathBuf>,
    listen: bool,
    pool_size: usize,
    statement_timeout: Duration,
    application_name: String,
}

impl PostgresStorageBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            tables: Tables::default(),
            tls_root_ca: None,
            listen: false,
            pool_size: DEFAULT_POOL_SIZE,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            application_name: DEFAULT_APPLICATION_NAME.to_owned(),
        }
    }

    /// Schema and table prefix. Default: no schema (the `search_path`), `outbox_`.
    pub fn tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// A PEM file with the CA that signed the server's certificate. Turns TLS on.
    pub fn tls_root_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_root_ca = Some(path.into());
        self
    }

    /// Whether the relay listens for `NOTIFY`, which appends must send too (`PostgresOutbox::with_notify`). Default: no.
    pub fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Connections for reads, and as many for settles; 1 to 100, default 3. Leases and administration have four more.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long the server may take for a statement; 100 ms to 10 min, default 30 s. Lease statements have 5 s at most.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// What the server shows in `pg_stat_activity`, unless the URL says otherwise. Default `outbox`.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// The storage.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a value that cannot be used, naming it and what is
    /// allowed; never with the password.
    pub fn build(self) -> Result<PostgresStorage, StorageError> {
        if !(1..=100).contains(&self.pool_size) {
            return Err(refused(format!("pool_size {} is not within 1 to 100", self.pool_size)));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&self.statement_timeout) {
            return Err(refused(format!(
                "statement_timeout {} ms is not within 100 ms to 600,000 ms",
                self.statement_timeout.as_millis()
            )));
        }
        let url = PostgresUrl::parse(&self.url)?;
        let tls = Tls::of(&url, self.tls_root_ca.as_deref())?;
        let connector = Connector::new(&url, tls, &self.application_name);
        PostgresStorage::new(connector, self.tables, self.listen, self.pool_size, self.statement_timeout)
    }
}

/// A reader, a sweep of another relay in the same process, and one to spare.
const DEFAULT_POOL_SIZE: usize = 3;

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

const DEFAULT_APPLICATION_NAME: &str = "outbox";

impl std::fmt::Debug for PostgresStorageBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStorageBuilder")
            .field("tables", &self.tables)
            .field("tls_root_ca", &self.tls_root_ca)
            .field("listen", &self.listen)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}
