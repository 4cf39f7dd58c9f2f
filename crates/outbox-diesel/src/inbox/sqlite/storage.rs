use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{Consumer, HeldQueue, InboxAdmin, InboxMemory, InboxProfile, InboxStorage, TransactionLimits};
use outbox_core::ports::StorageError;

use super::admin::SqliteInboxAdmin;
use super::builder::SqliteInboxBuilder;
use super::check::check;
use super::connection::SqliteInboxConnection;
use super::error::is_conflict;
use super::gate::Gate;
use super::held::SqliteHeldQueue;
use super::memory::SqliteInboxMemory;
use super::session::Sessions;
use super::transaction::{SqliteInboxTransaction, Statements};
use super::writer::Writer;
use crate::inbox::InboxTables;
use crate::sqlite::worker::Opener;

/// The inbox in a SQLite file, whose tables the handlers change.
///
/// SQLite has one writer at a time, so handlers run one after the other, whatever the number of workers: the size of the batches makes the
/// throughput, and a handler that waits for something else stops every writer of the file meanwhile. Within a program transactions go
/// in the order in which they came; writers of other programs get in between. A handler that writes through another connection waits for
/// itself, and fails as busy.
///
/// SQLite has no statement time-out: a handler that takes longer than its time is given up, and its statement runs to its end with the lock. The limit for
/// locks is kept, and past it others try again.
///
/// The connection has the settings of [`establish`](crate::sqlite::establish) (write-ahead log, `synchronous = FULL`, foreign keys), which every
/// process that writes the file must have; and it keeps what a handler sets on it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use diesel_async::RunQueryDsl;
/// use outbox_core::Event;
/// use outbox_core::inbox::InboxStorage;
/// use outbox_diesel::inbox::sqlite::{SqliteInbox, SqliteInboxConnection};
/// use outbox_diesel::inbox::{InboxTables, migrations};
/// use outbox_diesel::sqlite::establish_sync;
/// use outbox_inbox::{Delivery, Failure, Inbox};
/// # use outbox_core::inbox::Acknowledging;
/// # use outbox_testkit::memory::MemorySource;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced { order_id: u64, total_cents: i64 }
///
/// impl Event for OrderPlaced {
///     const AGGREGATE_TYPE: &'static str = "order";
///     const EVENT_TYPE: &'static str = "order.placed";
///     fn aggregate_id(&self) -> Option<String> { Some(self.order_id.to_string()) }
/// }
///
/// async fn charge(conn: &mut SqliteInboxConnection, event: OrderPlaced, _: &Delivery) -> Result<(), Failure> {
///     diesel::sql_query("UPDATE revenue SET cents = cents + ?")
///         .bind::<diesel::sql_types::BigInt, _>(event.total_cents)
///         .execute(conn)
///         .await?;
///     Ok(())
/// }
///
/// migrations::sqlite::up_sync(&mut establish_sync(&path)?, &InboxTables::default(), migrations::EXPECTED_INBOX_VERSION)?;
/// let storage = SqliteInbox::connect(&path).await?;
/// println!("{}", storage.check().await?.server);
/// # let source = MemorySource::new(Acknowledging::Cumulative, 1, &["order"]);
/// # let shutdown = std::future::ready(());
/// Inbox::builder(storage, "billing").on(charge).source(source).build()?.run(shutdown).await?;
/// # Ok::<(), Failure>(())
/// # }).map_err(|error| error.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteInbox {
    file: String,
    tables: InboxTables,
    sessions: Sessions,
    control: Writer,
    statements: Arc<Statements>,
    held: SqliteHeldQueue,
    memory: SqliteInboxMemory,
    admin: SqliteInboxAdmin,
}

impl SqliteInbox {
    /// Opens the inbox in a file that exists, with default settings: a path, `sqlite:PATH`, `sqlite://PATH` or a `file:` URI.
    ///
    /// # Errors
    ///
    /// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a database in memory and for a file that is no SQLite database,
    /// [`Unavailable`](outbox_core::ports::StorageErrorKind::Unavailable) when it does not exist or cannot be opened. To start without the file, use
    /// [`builder`](Self::builder).
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn connect(path_or_url: impl AsRef<Path>) -> Result<Self, StorageError> {
        let inbox = Self::builder(path_or_url).build()?;
        inbox.control.read("open the SQLite database", |_| Ok(())).await?;
        Ok(inbox)
    }

    /// A builder with the path or URL of the file.
    pub fn builder(path_or_url: impl AsRef<Path>) -> SqliteInboxBuilder {
        SqliteInboxBuilder::new(path_or_url.as_ref())
    }

    /// The tables that this inbox works on.
    pub fn tables(&self) -> &InboxTables {
        &self.tables
    }

    pub(super) fn new(opener: Opener, tables: InboxTables, lock_timeout: Duration) -> Self {
        let (file, opener, gate) = (opener.file.clone(), Arc::new(opener), Gate::new());
        let writer = || Writer::new(&opener, gate.clone(), lock_timeout);
        Self {
            file,
            sessions: Sessions::new(opener.clone(), gate.clone()),
            statements: Arc::new(Statements::new(&tables)),
            held: SqliteHeldQueue::new(writer(), &tables),
            memory: SqliteInboxMemory::new(writer(), &tables),
            admin: SqliteInboxAdmin::new(writer(), &tables),
            control: writer(),
            tables,
        }
    }
}

#[async_trait]
impl InboxStorage for SqliteInbox {
    type Connection = SqliteInboxConnection;
    type Transaction = SqliteInboxTransaction;

    async fn check(&self) -> Result<InboxProfile, StorageError> {
        check(&self.control, &self.tables).await
    }

    async fn begin(
        &self,
        consumer: &Consumer,
        limits: &TransactionLimits,
    ) -> Result<SqliteInboxTransaction, StorageError> {
        SqliteInboxTransaction::begin(&self.sessions, self.statements.clone(), consumer, limits).await
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

impl std::fmt::Debug for SqliteInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteInbox").field("file", &self.file).field("tables", &self.tables).finish_non_exhaustive()
    }
}
