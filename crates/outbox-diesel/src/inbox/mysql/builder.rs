//! Settings of a [`MysqlInbox`].

use std::path::PathBuf;
use std::time::Duration;

use outbox_core::ports::StorageError;

use super::storage::MysqlInbox;
use crate::inbox::InboxTables;
use crate::mysql::connector::Connector;
use crate::mysql::error::refused;
use crate::mysql::tls;
use crate::mysql::url::MysqlUrl;

/// Builds a [`MysqlInbox`]. Nothing is connected before the first use.
pub struct MysqlInboxBuilder {
    url: String,
    tables: InboxTables,
    tls_root_ca: Option<PathBuf>,
    pool_size: usize,
    statement_timeout: Duration,
    idle_timeout: Duration,
}

impl MysqlInboxBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            tables: InboxTables::default(),
            tls_root_ca: None,
            pool_size: DEFAULT_POOL_SIZE,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
        }
    }

    /// Schema (a database on the same server) and table prefix. Default: the database of the URL, `inbox_`.
    pub fn tables(mut self, tables: InboxTables) -> Self {
        self.tables = tables;
        self
    }

    /// A PEM file with the CA that signed the server's certificate. Turns TLS on.
    pub fn tls_root_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_root_ca = Some(path.into());
        self
    }

    /// Connections for transactions; 1 to 200, default 10. Each inbox needs up to two for each of its workers. All else has six more.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long the server may take for a statement outside of the handlers' transactions, whose limits the inbox sets; 100 ms to 10 min,
    /// default 30 s. MySQL, unlike MariaDB, limits reads only; the inbox itself stops waiting for the others.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long a transaction may wait for its handler's next statement before the *server* ends it, so that a process that is stopped or cut off
    /// does not hold its messages for ever; 1 s to 24 h in whole seconds, rounded up, default 60 s. Longer than what handlers may do between two
    /// statements.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The inbox's storage.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a value that cannot be used, naming it and what is
    /// allowed; never with the password.
    pub fn build(self) -> Result<MysqlInbox, StorageError> {
        if !(1..=200).contains(&self.pool_size) {
            return Err(refused(format!("pool_size {} is not within 1 to 200", self.pool_size)));
        }
        let secs = Duration::from_secs;
        within("statement_timeout", self.statement_timeout, Duration::from_millis(100), secs(600))?;
        within("idle_timeout", self.idle_timeout, secs(1), secs(86_400))?;
        let url = MysqlUrl::parse(&self.url)?;
        let tls = tls::options(&url, self.tls_root_ca.as_deref())?;
        let connector = Connector::new(&url, tls).with_database(self.tables.schema())?;
        let tables = self.tables.for_mysql();
        MysqlInbox::new(connector, tables, self.pool_size, self.statement_timeout, self.idle_timeout)
    }
}

fn within(name: &str, value: Duration, min: Duration, max: Duration) -> Result<(), StorageError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let (value, min, max) = (value.as_millis(), min.as_millis(), max.as_millis());
    Err(refused(format!("{name} {value} ms is not within {min} ms to {max} ms")))
}

/// Twice the workers that an inbox has unless configured otherwise, and two to spare.
const DEFAULT_POOL_SIZE: usize = 10;

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl std::fmt::Debug for MysqlInboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlInboxBuilder")
            .field("tables", &self.tables)
            .field("tls_root_ca", &self.tls_root_ca)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
