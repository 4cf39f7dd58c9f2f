//! The entry: pools for each kind of work, and the ports over them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::order::{WatchMode, WatchTracker};
use outbox_core::ports::{Admin, Leases, Notifier, Reader, Settler, Storage, StorageError, StorageProfile};

use super::admin::MysqlAdmin;
use super::builder::MysqlStorageBuilder;
use super::check::check;
use super::connector::{Connector, IDLE_LIMIT, Limits};
use super::leases::MysqlLeases;
use super::pool::Pool;
use super::reader::MysqlReader;
use super::settler::MysqlSettler;
use super::shared::Shared;
use crate::Tables;

/// The outbox in MySQL 8.0.17 or newer or MariaDB 10.6 or newer, for relays and operators.
///
/// Reads, settles, lease renewals and administration each have connections of their own, so that none waits for another.
/// Connections are made when they are needed and replaced when they are lost. There is no wake-up by the database here: the relay
/// polls, and appends in its own process can nudge it.
///
/// The server must keep every promise of InnoDB: `binlog_format` `ROW` or `MIXED`, one writable node (no Galera multi-writer).
/// [`check`](Storage::check) refuses what it can see.
///
/// # TLS
///
/// Off unless the URL says `ssl-mode=required` or `ssl-mode=verify_identity`, or a root CA is given; then the server's certificate
/// and name are always verified (unlike the server's own client with `required`), against the CA in `ssl-ca` or the public roots.
///
/// ```no_run
/// # async fn run() -> Result<(), outbox_core::ports::StorageError> {
/// use outbox_core::Storage;
/// use outbox_diesel::mysql::MysqlStorage;
///
/// let storage = MysqlStorage::connect("mysql://relay@localhost/shop?ssl-mode=verify_identity").await?;
/// println!("{}", storage.check().await?.server);
/// # Ok(()) }
/// ```
pub struct MysqlStorage {
    connector: Connector,
    tables: Tables,
    read_limits: Limits,
    visibility_margin: Duration,
    control: Pool,
    shared: Arc<Shared>,
    leases: MysqlLeases,
    settler: MysqlSettler,
    admin: MysqlAdmin,
}

impl MysqlStorage {
    /// Connects with default settings.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a URL, certificate or account that must be corrected,
    /// [`Unavailable`](outbox_core::ports::StorageErrorKind::Unavailable) when the server cannot be reached. To start without the
    /// server, use [`builder`](Self::builder).
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        let storage = Self::builder(url).build()?;
        storage.control.run("connect", "DO 1").await?;
        Ok(storage)
    }

    /// A builder with the URL of the database, `mysql://user:password@host:port/database`.
    pub fn builder(url: impl Into<String>) -> MysqlStorageBuilder {
        MysqlStorageBuilder::new(url.into())
    }

    /// The tables that this storage works on.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(super) fn new(
        connector: Connector,
        tables: Tables,
        pool_size: usize,
        statement_timeout: Duration,
        visibility_margin: Duration,
    ) -> Result<Self, StorageError> {
        let limits = |statement: Duration| Limits { statement, lock: LOCK_TIMEOUT, idle: IDLE_LIMIT };
        let pool = |size: usize, statement: Duration| Pool::new(connector.clone(), size, limits(statement));
        let shared = Arc::new(Shared::new());
        let control = pool(CONTROL_CONNECTIONS, statement_timeout)?;
        let settles = pool(pool_size, statement_timeout)?;
        Ok(Self {
            leases: MysqlLeases::new(pool(LEASE_CONNECTIONS, statement_timeout.min(LEASE_TIMEOUT))?, &tables),
            settler: MysqlSettler::new(settles, control.clone(), shared.clone(), &tables),
            admin: MysqlAdmin::new(control.clone(), &tables),
            read_limits: Limits { idle: READER_IDLE_LIMIT, ..limits(statement_timeout) },
            visibility_margin,
            control,
            shared,
            connector,
            tables,
        })
    }
}

/// Heartbeats and acquisitions of one relay follow each other; two serve two relays in one process.
const LEASE_CONNECTIONS: usize = 2;

/// What the server may take for a lease statement: it waits for row locks of single statements only.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement waits for a row lock. Those of the relays are held for milliseconds; a session that holds one for longer was
/// stopped by something, and the statement is tried again.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader holds no locks, and one that is lost starts again at the bottom: a relay that cannot publish for hours keeps it.
const READER_IDLE_LIMIT: Duration = Duration::from_secs(8 * 60 * 60);

/// Checks, backlog, parked keys and administration.
const CONTROL_CONNECTIONS: usize = 2;

#[async_trait]
impl Storage for MysqlStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        check(&self.connector, &self.control, &self.tables).await
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        let tracker = WatchTracker::new(self.visibility_margin, WatchMode::default());
        let reader =
            MysqlReader::new(&self.connector, self.read_limits, self.tables.clone(), &self.shared, tracker).await?;
        Ok(Box::new(reader))
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

impl std::fmt::Debug for MysqlStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlStorage").field("target", &self.connector.target()).field("tables", &self.tables).finish()
    }
}
