use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;
use outbox_core::inbox::{Consumer, HeldQueue, InboxAdmin, InboxMemory, InboxProfile, InboxStorage, TransactionLimits};
use outbox_core::ports::StorageError;

use super::admin::PostgresInboxAdmin;
use super::builder::PostgresInboxBuilder;
use super::check::check;
use super::error::is_conflict;
use super::held::PostgresHeldQueue;
use super::memory::PostgresInboxMemory;
use super::transaction::{PostgresInboxTransaction, Statements};
use crate::inbox::InboxTables;
use crate::postgres::connector::Connector;
use crate::postgres::error::timed_out;
use crate::postgres::pool::Pool;

/// The inbox in PostgreSQL 13 or newer, in the database whose tables the handlers change.
///
/// Transactions, the queue of held messages, and all other work have connections of their own, so that none waits for another.
/// Connections are made when they are needed and replaced when they are lost. Those of handlers have the server's own settings, except that
/// nothing is written on them outside of the inbox's transactions (`default_transaction_read_only`); what a handler sets must be set for
/// the transaction only (`SET LOCAL`). TLS is as with [`PostgresStorage`](crate::postgres::PostgresStorage).
///
/// ```no_run
/// # async fn run() -> Result<(), outbox_core::ports::StorageError> {
/// use outbox_core::inbox::InboxStorage;
/// use outbox_diesel::inbox::postgres::PostgresInbox;
///
/// let inbox = PostgresInbox::connect("postgres://billing@localhost/billing?sslmode=verify-full").await?;
/// println!("{}", inbox.check().await?.server);
/// # Ok(()) }
/// ```
pub struct PostgresInbox {
    target: String,
    tables: InboxTables,
    transactions: Pool,
    control: Pool,
    idle_timeout: Duration,
    statements: Arc<Statements>,
    held: PostgresHeldQueue,
    memory: PostgresInboxMemory,
    admin: PostgresInboxAdmin,
}

impl PostgresInbox {
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
        let limit = inbox.control.timeout();
        let checkout = tokio::time::timeout(limit, inbox.control.checkout(CONNECT)).await;
        checkout.map_err(|_| timed_out(CONNECT, limit))??.give_back();
        Ok(inbox)
    }

    /// A builder with the URL of the database, `postgres://user:password@host:port/database`.
    pub fn builder(url: impl Into<String>) -> PostgresInboxBuilder {
        PostgresInboxBuilder::new(url.into())
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
        let pool = |size: usize| Pool::new(connector.clone(), size, statement_timeout);
        let control = pool(CONTROL_CONNECTIONS)?;
        Ok(Self {
            target: connector.target().to_owned(),
            transactions: Pool::guarded(connector.clone(), pool_size, statement_timeout)?,
            statements: Arc::new(Statements::new(&tables)),
            held: PostgresHeldQueue::new(pool(HELD_CONNECTIONS)?, &tables),
            memory: PostgresInboxMemory::new(control.clone(), &tables),
            admin: PostgresInboxAdmin::new(control.clone(), &tables),
            control,
            idle_timeout,
            tables,
        })
    }
}

/// A claim, and what several workers write about theirs.
const HELD_CONNECTIONS: usize = 4;

/// Checks, positions, retention and administration.
const CONTROL_CONNECTIONS: usize = 2;

const CONNECT: &str = "connect";

#[async_trait]
impl InboxStorage for PostgresInbox {
    type Connection = AsyncPgConnection;
    type Transaction = PostgresInboxTransaction;

    async fn check(&self) -> Result<InboxProfile, StorageError> {
        check(&self.control, &self.tables).await
    }

    async fn begin(
        &self,
        consumer: &Consumer,
        limits: &TransactionLimits,
    ) -> Result<PostgresInboxTransaction, StorageError> {
        let idle_ms = self.idle_timeout.as_millis();
        PostgresInboxTransaction::begin(&self.transactions, self.statements.clone(), consumer, limits, idle_ms).await
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

impl std::fmt::Debug for PostgresInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresInbox").field("target", &self.target).field("tables", &self.tables).finish()
    }
}
