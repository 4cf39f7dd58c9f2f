use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel_async::AsyncMysqlConnection;
use outbox_core::inbox::{Consumer, HeldQueue, InboxAdmin, InboxMemory, InboxProfile, InboxStorage, TransactionLimits};
use outbox_core::ports::StorageError;

use super::admin::MysqlInboxAdmin;
use super::builder::MysqlInboxBuilder;
use super::check::check;
use super::error::is_conflict;
use super::held::MysqlHeldQueue;
use super::memory::MysqlInboxMemory;
use super::pool::Pool as TransactionPool;
use super::transaction::{MysqlInboxTransaction, Statements};
use crate::inbox::InboxTables;
use crate::mysql::connector::{Connector, IDLE_LIMIT, Limits};
use crate::mysql::pool::Pool;

/// The inbox in MySQL 8.0.17 or newer or MariaDB 10.6 or newer, in the database whose tables the handlers change.
///
/// Transactions, the queue of held messages, and all other work have connections of their own, so that none waits for another.
/// Connections are made when they are needed and replaced when they are lost.
///
/// Those of handlers have Diesel's settings (UTC, `utf8mb4`) and the server's own, but for what each transaction sets: READ COMMITTED
/// (without `innodb_snapshot_isolation`, which MariaDB has on from 11.6 on), `autocommit = 0`, the limits of locks, statements and idleness,
/// and errors in English. What else a handler sets stays for the next one. A deadlock (error 1213) ends the *whole* transaction: a handler
/// that goes on after one does nothing that is committed.
///
/// The server must keep every promise of InnoDB: `binlog_format` `ROW` or `MIXED`, `innodb_flush_log_at_trx_commit = 1`, one writable node (no
/// Galera multi-writer). [`check`](InboxStorage::check) refuses what it can see. TLS is as with [`MysqlStorage`](crate::mysql::MysqlStorage).
///
/// ```no_run
/// # async fn run() -> Result<(), outbox_core::ports::StorageError> {
/// use outbox_core::inbox::InboxStorage;
/// use outbox_diesel::inbox::mysql::MysqlInbox;
///
/// let inbox = MysqlInbox::connect("mysql://billing@localhost/billing?ssl-mode=verify_identity").await?;
/// println!("{}", inbox.check().await?.server);
/// # Ok(()) }
/// ```
pub struct MysqlInbox {
    connector: Connector,
    tables: InboxTables,
    transactions: TransactionPool,
    control: Pool,
    idle_timeout: Duration,
    statements: Arc<Statements>,
    held: MysqlHeldQueue,
    memory: MysqlInboxMemory,
    admin: MysqlInboxAdmin,
}

impl MysqlInbox {
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
        let inbox = Self::builder(url).build()?;
        inbox.control.run("connect", "DO 1").await?;
        Ok(inbox)
    }

    /// A builder with the URL of the database, `mysql://user:password@host:port/database`.
    pub fn builder(url: impl Into<String>) -> MysqlInboxBuilder {
        MysqlInboxBuilder::new(url.into())
    }

    /// The tables that this inbox works on.
    pub fn tables(&self) -> &InboxTables {
        &self.tables
    }

    pub(super) fn new(
        connector: Connector,
        tables: InboxTables,
        pool_size: usize,
        statement_timeout: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, StorageError> {
        let limits = Limits { statement: statement_timeout, lock: LOCK_TIMEOUT, idle: IDLE_LIMIT };
        let pool = |size: usize| Pool::new(connector.clone(), size, limits);
        let control = pool(CONTROL_CONNECTIONS)?;
        Ok(Self {
            transactions: TransactionPool::new(connector.clone(), pool_size)?,
            statements: Arc::new(Statements::new(&tables)),
            held: MysqlHeldQueue::new(pool(HELD_CONNECTIONS)?, &tables),
            memory: MysqlInboxMemory::new(control.clone(), &tables),
            admin: MysqlInboxAdmin::new(control.clone(), &tables),
            control,
            idle_timeout,
            connector,
            tables,
        })
    }
}

/// A claim, and what several workers write about theirs.
const HELD_CONNECTIONS: usize = 4;

/// Checks, positions, retention and administration.
const CONTROL_CONNECTIONS: usize = 2;

/// How long work beside the transactions waits for a row lock. A handler's transaction may hold the row of a key for as long as the handler takes:
/// whoever waits for it tries a few times and then leaves it for later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

#[async_trait]
impl InboxStorage for MysqlInbox {
    type Connection = AsyncMysqlConnection;
    type Transaction = MysqlInboxTransaction;

    async fn check(&self) -> Result<InboxProfile, StorageError> {
        check(&self.connector, &self.control, &self.tables).await
    }

    async fn begin(
        &self,
        consumer: &Consumer,
        limits: &TransactionLimits,
    ) -> Result<MysqlInboxTransaction, StorageError> {
        let statements = self.statements.clone();
        MysqlInboxTransaction::begin(&self.transactions, statements, consumer, limits, self.idle_timeout).await
    }

    fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        is_conflict(error)
    }

    fn held(&self) -> &dyn HeldQueue {
        &self.held
    }

    fn memory(&self) -> &dyn InboxMemory {
        &self.memory
    }

    fn admin(&self) -> &dyn InboxAdmin {
        &self.admin
    }
}

impl std::fmt::Debug for MysqlInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlInbox").field("target", &self.connector.target()).field("tables", &self.tables).finish()
    }
}
