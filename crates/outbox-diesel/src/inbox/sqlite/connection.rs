//! The connection that handlers get.

use std::error::Error as StdError;
use std::num::NonZeroU32;

use diesel::connection::{
    AnsiTransactionManager, CacheSize, Connection, ConnectionSealed, Instrumentation, LoadConnection, SimpleConnection,
    TransactionManager, WithMetadataLookup,
};
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::result::{ConnectionResult, DatabaseErrorKind, Error, QueryResult};
use diesel::sql_types::Integer;
use diesel::sqlite::Sqlite;
use diesel::{ConnectionError, RunQueryDsl, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use super::gate::Permit;
use crate::sql::Sql;

/// The connection of a [`SqliteInboxTransaction`](super::SqliteInboxTransaction): everything of diesel-async works on it, as on a
/// `SyncConnectionWrapper<SqliteConnection>`, and [`SqliteOutbox::append`](crate::sqlite::SqliteOutbox::append) takes it.
///
/// What differs:
///
/// - Once the transaction has ended (`ROLLBACK`, `ON CONFLICT ROLLBACK`, a full disk, on which SQLite rolls back by itself), every statement fails
///   instead of committing by itself. What stands after `ROLLBACK` in the same text of a `batch_execute` is not found out in time.
/// - A `COMMIT` fails with a violated foreign key.
/// - A future that is dropped does not wait for its statement, which ends on its own thread. It works on every runtime of tokio.
///
/// # Cancellation
///
/// A statement whose future is dropped runs to its end, and the next one waits for it.
pub type SqliteInboxConnection = SyncConnectionWrapper<GuardedConnection, BlockingThreads>;

/// A connection of SQLite whose statements fail when the transaction of the inbox that it was begun with has ended.
pub struct GuardedConnection {
    sqlite: SqliteConnection,
    is_guarded: bool,
    /// Given back after the connection is closed, or by whoever ended the transaction.
    permit: Option<Permit>,
}

/// A table that is empty outside of transactions. Within one it has a row that breaks a deferred constraint: it is gone after a rollback, and
/// nobody can commit while it is there.
const MAKE_GUARD: &str = "PRAGMA foreign_keys = ON; \
    CREATE TEMP TABLE outbox_inbox_transaction (one INTEGER PRIMARY KEY, \
    ended INTEGER NOT NULL REFERENCES outbox_inbox_transaction (one) DEFERRABLE INITIALLY DEFERRED)";

const RAISE_GUARD: &str = "INSERT INTO temp.outbox_inbox_transaction (one, ended) VALUES (1, 2)";

const LOOK_AT_GUARD: &str = "SELECT one FROM temp.outbox_inbox_transaction";

const LOWER_GUARD: &str = "DELETE FROM temp.outbox_inbox_transaction";

/// What a statement after the transaction's end gets.
const ENDED: &str = "the inbox's transaction has ended: a handler rolled it back, or swallowed an error that did";

impl GuardedConnection {
    /// A connection for one transaction after the other.
    pub(super) fn new(mut sqlite: SqliteConnection) -> QueryResult<Self> {
        sqlite.batch_execute(MAKE_GUARD)?;
        Ok(Self { sqlite, is_guarded: false, permit: None })
    }

    /// The connection itself, for work of which the guard knows nothing.
    pub(super) fn sqlite(&mut self) -> &mut SqliteConnection {
        &mut self.sqlite
    }

    /// Takes the right to write, which this connection has until [`take_permit`](Self::take_permit) or its end.
    pub(super) fn give_permit(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Guards the transaction that was just begun.
    pub(super) fn guard(&mut self) -> QueryResult<()> {
        self.sqlite.batch_execute(RAISE_GUARD)?;
        self.is_guarded = true;
        Ok(())
    }

    /// Whether the transaction is the one that is guarded, with no savepoint of Diesel's left open.
    pub(super) fn is_at_its_top(&mut self) -> QueryResult<bool> {
        let status = AnsiTransactionManager::transaction_manager_status_mut(&mut self.sqlite);
        let at_top = status.transaction_depth().ok().flatten().map(NonZeroU32::get) == Some(1);
        Ok(at_top && self.is_guarded && self.stands()?)
    }

    /// Fails when the guarded transaction has ended.
    pub(super) fn expect_transaction(&mut self) -> QueryResult<()> {
        if !self.is_guarded || self.stands()? {
            return Ok(());
        }
        Err(Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(ENDED.to_owned())))
    }

    pub(super) fn commit(&mut self) -> QueryResult<()> {
        self.sqlite.batch_execute(LOWER_GUARD)?;
        self.is_guarded = false;
        AnsiTransactionManager::commit_transaction(&mut self.sqlite)
    }

    pub(super) fn roll_back(&mut self) -> QueryResult<()> {
        self.is_guarded = false;
        AnsiTransactionManager::rollback_transaction(&mut self.sqlite)
    }

    fn stands(&mut self) -> QueryResult<bool> {
        Ok(!Sql::<_, Integer>::new(LOOK_AT_GUARD, ()).load::<i32>(&mut self.sqlite)?.is_empty())
    }
}

impl SimpleConnection for GuardedConnection {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.expect_transaction()?;
        self.sqlite.batch_execute(query)
    }
}

impl ConnectionSealed for GuardedConnection {}

impl Connection for GuardedConnection {
    type Backend = Sqlite;
    type TransactionManager = AnsiTransactionManager;

    /// A connection that guards nothing: transactions are begun by the inbox.
    fn establish(database_url: &str) -> ConnectionResult<Self> {
        Self::new(SqliteConnection::establish(database_url)?).map_err(ConnectionError::CouldntSetupConfiguration)
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Sqlite> + QueryId,
    {
        self.expect_transaction()?;
        self.sqlite.execute_returning_count(source)
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.sqlite.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.sqlite.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.sqlite.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.sqlite.set_prepared_statement_cache_size(size);
    }
}

impl LoadConnection for GuardedConnection {
    type Cursor<'conn, 'query> = <SqliteConnection as LoadConnection>::Cursor<'conn, 'query>;
    type Row<'conn, 'query> = <SqliteConnection as LoadConnection>::Row<'conn, 'query>;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Sqlite> + QueryId + 'query,
        Sqlite: diesel::expression::QueryMetadata<T::SqlType>,
    {
        self.expect_transaction()?;
        LoadConnection::load(&mut self.sqlite, source)
    }
}

impl WithMetadataLookup for GuardedConnection {
    fn metadata_lookup(&mut self) -> &mut () {
        self.sqlite.metadata_lookup()
    }
}

impl std::fmt::Debug for GuardedConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedConnection").field("is_guarded", &self.is_guarded).finish_non_exhaustive()
    }
}

/// Runs statements on tokio's blocking threads. A call that has begun runs to its end, whatever becomes of its future: dropping that neither waits
/// nor panics.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockingThreads;

impl SpawnBlocking for BlockingThreads {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn StdError + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        tokio::task::spawn_blocking(task).map_err(Box::from).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}
