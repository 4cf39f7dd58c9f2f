//! One transaction on one connection of handlers.

use std::time::Duration;

use diesel::deserialize::FromSqlRow;
use diesel::mysql::Mysql;
use diesel::result::{Error, QueryResult};
use diesel_async::{
    AnsiTransactionManager, AsyncConnectionCore, AsyncMysqlConnection, SimpleAsyncConnection, TransactionManager,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use outbox_core::inbox::TransactionLimits;
use outbox_core::ports::StorageError;
use tokio::time::timeout;

use super::error::statement_error;
use super::pool::{Checkout, Pool};
use crate::mysql::error::timed_out;
use crate::sql::{Binds, Sql};

/// What a client waits past the server's own limit, so that the server's answer comes first when it lives.
const GRACE: Duration = Duration::from_secs(2);

/// Set as the first thing of a transaction, never rolled back to: it is there as long as that transaction is, whatever ended it (a deadlock, a
/// COMMIT, a ROLLBACK, a statement that commits by itself).
const MARK: &str = "inbox_transaction";

/// An open transaction. Dropping it ends the connection, and the server rolls back.
pub(super) struct Session {
    checkout: Checkout,
    limit: Duration,
    /// A statement was given up before its answer: what the connection says next is not an answer to what is asked next.
    is_lost: bool,
}

impl Session {
    /// Takes a connection and begins.
    pub(super) async fn begin(
        pool: &Pool,
        what: &str,
        limits: &TransactionLimits,
        idle: Duration,
    ) -> Result<Self, StorageError> {
        let limit = limits.statement + GRACE;
        let begin = begin_text(limits, idle);
        let work = async {
            let mut checkout = pool.checkout(what).await?;
            AnsiTransactionManager::begin_transaction_sql(checkout.connection(), &begin)
                .await
                .map_err(|error| statement_error(what, error))?;
            Ok(Self { checkout, limit, is_lost: false })
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit)))
    }

    pub(super) fn connection(&mut self) -> &mut AsyncMysqlConnection {
        self.checkout.connection()
    }

    /// Runs one statement and returns its rows. `what` completes "cannot …".
    pub(super) fn load<'a, 'q, U, B, R>(
        &'a mut self,
        what: &'a str,
        sql: Sql<'q, B, R>,
    ) -> BoxFuture<'a, Result<Vec<U>, StorageError>>
    where
        'q: 'a,
        B: Binds<Mysql> + Send + 'a,
        R: 'static,
        U: FromSqlRow<R, Mysql> + Send + 'a,
    {
        async move {
            let (limit, rows) = (self.limit, rows_of(self.checkout.connection(), sql));
            match timeout(limit, rows).await {
                Ok(rows) => rows.map_err(|error| statement_error(what, error)),
                Err(_) => Err(self.given_up(what)),
            }
        }
        .boxed()
    }

    /// Runs one statement that changes rows, and returns how many it matched.
    pub(super) fn execute<'a, 'q, B>(
        &'a mut self,
        what: &'a str,
        sql: Sql<'q, B>,
    ) -> BoxFuture<'a, Result<usize, StorageError>>
    where
        'q: 'a,
        B: Binds<Mysql> + Send + 'a,
    {
        async move {
            let (limit, work) = (self.limit, self.checkout.connection().execute_returning_count(sql));
            match timeout(limit, work).await {
                Ok(matched) => matched.map_err(|error| statement_error(what, error)),
                Err(_) => Err(self.given_up(what)),
            }
        }
        .boxed()
    }

    /// Begins again after the server has ended the transaction, in which nothing was done yet.
    pub(super) async fn restart(&mut self, what: &str) -> Result<(), StorageError> {
        let text = format!("ROLLBACK; {START}; SAVEPOINT {MARK}");
        let (limit, work) = (self.limit, self.checkout.connection().batch_execute(&text));
        match timeout(limit, work).await {
            Ok(begun) => begun.map_err(|error| statement_error(what, error)),
            Err(_) => Err(self.given_up(what)),
        }
    }

    /// Whether the transaction that [`begin`](Self::begin) has begun is what the next statement belongs to, as far as Diesel knows: no
    /// savepoint is left open.
    pub(super) fn is_at_its_top(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(self.checkout.connection());
        !self.is_lost && status.transaction_depth().ok().flatten().is_some_and(|depth| depth.get() == 1)
    }

    /// Commits, when the transaction is still the one that was begun. Only an error of kind `Conflict` says that nothing was committed.
    pub(super) async fn commit(mut self, what: &str) -> Result<Commit, StorageError> {
        let limit = self.limit;
        let work = async {
            let connection = self.checkout.connection();
            match connection.batch_execute(&format!("RELEASE SAVEPOINT {MARK}")).await {
                Ok(()) => {}
                Err(Error::DatabaseError(_, text)) if text.message().contains(MARK) => return Ok(Commit::Ended),
                Err(error) => return Err(statement_error(what, error)),
            }
            let committed = AnsiTransactionManager::commit_transaction(connection).await;
            committed.map(|()| Commit::Done).map_err(|error| statement_error(what, error))
        };
        match timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit)))? {
            Commit::Done => {
                self.checkout.give_back();
                Ok(Commit::Done)
            }
            Commit::Ended => {
                self.roll_back().await;
                Ok(Commit::Ended)
            }
        }
    }

    /// Whether the server answers.
    pub(super) async fn answers(&mut self) -> bool {
        let answer = timeout(self.limit, self.checkout.connection().batch_execute("SELECT 1")).await;
        self.is_lost |= !matches!(answer, Ok(Ok(())));
        !self.is_lost
    }

    /// Rolls back; the connection is ended when that cannot be done in a clean way.
    pub(super) async fn roll_back(mut self) {
        if !self.is_at_its_top() {
            return;
        }
        let work = AnsiTransactionManager::rollback_transaction(self.checkout.connection());
        if let Ok(Ok(())) = timeout(self.limit, work).await {
            self.checkout.give_back();
        }
    }

    fn given_up(&mut self, what: &str) -> StorageError {
        self.is_lost = true;
        timed_out(what, self.limit)
    }
}

/// What became of a commit.
pub(super) enum Commit {
    Done,
    /// The transaction had ended before; nothing was committed here.
    Ended,
}

const START: &str = "START TRANSACTION READ WRITE";

/// The settings of a transaction, and its beginning. The connection may have been another's before, and its handlers may have set anything.
///
/// Without autocommit, what is executed after a deadlock has ended the transaction does not commit by itself. `lc_messages` is for the errors
/// that handlers return. With `innodb_snapshot_isolation`, on by default from MariaDB 11.6 on, a statement that reads and then locks a row
/// which another has changed meanwhile would end the transaction (1020), unlike on every other server. Comments that begin with `/*M!` are
/// run by MariaDB only (`/*M!110600`: from 11.6 on), those with `/*!80000` by MySQL 8 only.
fn begin_text(limits: &TransactionLimits, idle: Duration) -> String {
    let whole_secs = |limit: Duration| limit.as_millis().div_ceil(1_000).max(1);
    let (lock, idle, statement) = (whole_secs(limits.lock), whole_secs(idle), limits.statement);
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION autocommit = 0, completion_type = 0, sql_select_limit = {}, sql_safe_updates = 0, sql_big_selects = 1, \
         lc_messages = 'en_US', innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, wait_timeout = {idle} \
         /*M! , idle_transaction_timeout = {idle}, max_statement_time = {}.{:03} */ \
         /*M!110600 , innodb_snapshot_isolation = 0 */ /*!80000 , max_execution_time = {} */; \
         {START}; SAVEPOINT {MARK}",
        u64::MAX,
        statement.as_secs(),
        statement.subsec_millis().max(u32::from(statement.as_millis() == 0)),
        statement.as_millis().max(1),
    )
}

async fn rows_of<U, B, R>(connection: &mut AsyncMysqlConnection, sql: Sql<'_, B, R>) -> QueryResult<Vec<U>>
where
    B: Binds<Mysql> + Send,
    R: 'static,
    U: FromSqlRow<R, Mysql> + Send,
{
    let mut stream = AsyncConnectionCore::load(connection, sql).await?;
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(U::build_from_row(&row).map_err(Error::DeserializationError)?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_none_and_seconds_are_rounded_up() {
        let limits = TransactionLimits { statement: Duration::from_micros(10), lock: Duration::from_millis(1_200) };
        let text = begin_text(&limits, Duration::from_secs(60));
        assert!(text.contains("innodb_lock_wait_timeout = 2,") && text.contains("wait_timeout = 60"), "{text}");
        assert!(text.contains("max_execution_time = 1 ") && !text.contains("max_statement_time = 0.000"), "{text}");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(
            place("autocommit = 0") < place("START TRANSACTION") && place("START TRANSACTION") < place("SAVEPOINT")
        );
    }
}
