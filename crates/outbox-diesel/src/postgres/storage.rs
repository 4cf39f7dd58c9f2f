//! The entry: pools for each kind of work, and the ports over them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::ports::{Admin, Leases, Notifier, Reader, Settler, Storage, StorageError, StorageProfile};

use super::admin::PostgresAdmin;
use super::builder::PostgresStorageBuilder;
use super::check::check;
use super::connector::Connector;
use super::error::{pool_error, timed_out};
use super::leases::PostgresLeases;
use super::notifier::PostgresNotifier;
use super::pool::Pool;
use super::reader::{PostgresReader, ReadStatements};
use super::settler::PostgresSettler;
use super::shared::Shared;
use crate::Tables;

/// The outbox in PostgreSQL 13 or newer, for relays and operators.
///
/// Reads, settles, lease renewals and administration each have connections of their own, so that none waits for another.
/// Connections are made when they are needed and replaced when they are lost.
///
/// # TLS
///
/// Off unless the URL says `sslmode=require` or `sslmode=verify-full`, or a root CA is given; then the server's certificate and
/// name are always verified (unlike libpq's `require`), against the CA in `sslrootcert` or the public roots.
///
/// ```no_run
/// # async fn run() -> Result<(), outbox_core::ports::StorageError> {
/// use outbox_core::Storage;
/// use outbox_diesel::postgres::PostgresStorage;
///
/// let storage = PostgresStorage::connect("postgres://relay@localhost/shop?sslmode=verify-full").await?;
/// println!("{}", storage.check().await?.server);
/// # Ok(()) }
/// ```
pub struct PostgresStorage {
    connector: Connector,
    tables: Tables,
    listen: bool,
    statement_timeout: Duration,
    reads: Pool,
    control: Pool,
    statements: Arc<ReadStatements>,
    shared: Arc<Shared>,
    leases: PostgresLeases,
    settler: PostgresSettler,
    admin: PostgresAdmin,
}

impl PostgresStorage {
    /// Connects with default settings.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a URL, certificate or account that must be corrected,
    /// [`Unavailable`](outbox_core::ports::StorageErrorKind::Unavailable) when the server cannot be reached. To start without the server, use
    /// [`builder`](Self::builder).
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        let storage = Self::builder(url).build()?;
        storage.connected().await?;
        Ok(storage)
    }

    /// A builder with the URL of the database, `postgres://user:password@host:port/database`.
    pub fn builder(url: impl Into<String>) -> PostgresStorageBuilder {
        PostgresStorageBuilder::new(url.into())
    }

    /// The tables that this storage works on.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(super) fn new(
        connector: Connector,
        tables: Tables,
        listen: bool,
        pool_size: usize,
        statement_timeout: Duration,
    ) -> Result<Self, StorageError> {
        let pool = |size: usize, timeout: Duration| Pool::new(connector.clone(), size, timeout);
        let shared = Arc::new(Shared::new());
        let control = pool(CONTROL_CONNECTIONS, statement_timeout)?;
        let settles = pool(pool_size, statement_timeout)?;
        Ok(Self {
            leases: PostgresLeases::new(pool(LEASE_CONNECTIONS, statement_timeout.min(LEASE_TIMEOUT))?, &tables),
            settler: PostgresSettler::new(settles, control.clone(), shared.clone(), &tables),
            admin: PostgresAdmin::new(control.clone(), &tables),
            reads: pool(pool_size, statement_timeout)?,
            statements: Arc::new(ReadStatements::new(&tables)),
            control,
            shared,
            connector,
            tables,
            listen,
            statement_timeout,
        })
    }

    async fn connected(&self) -> Result<(), StorageError> {
        let checkout = tokio::time::timeout(self.control.timeout(), self.control.checkout(CONNECT))
            .await
            .map_err(|_| timed_out(CONNECT, self.control.timeout()))??;
        checkout.give_back();
        Ok(())
    }
}

/// Heartbeats and acquisitions of one relay follow each other; two serve two relays in one process.
const LEASE_CONNECTIONS: usize = 2;

/// What the server may take for a lease statement: it waits for row locks of single statements only.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks, backlog, parked keys and administration.
const CONTROL_CONNECTIONS: usize = 2;

const CONNECT: &str = "connect";

#[async_trait]
impl Storage for PostgresStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        check(&self.control, &self.tables).await
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        let reader = PostgresReader::new(self.reads.clone(), self.statements.clone(), self.shared.clone()).await?;
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
        const WHAT: &str = "listen for appends";
        if !self.listen {
            return Ok(None);
        }
        let work = async {
            let connection = self.connector.connect(self.statement_timeout).await.map_err(|error| {
                pool_error(WHAT, diesel_async::pooled_connection::PoolError::ConnectionError(error))
            })?;
            PostgresNotifier::listen(connection, self.tables.channel()).await
        };
        let notifier = tokio::time::timeout(self.control.timeout(), work)
            .await
            .map_err(|_| timed_out(WHAT, self.control.timeout()))??;
        Ok(Some(Box::new(notifier)))
    }
}

impl std::fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("target", &self.connector.target())
            .field("tables", &self.tables)
            .finish()
    }
}
