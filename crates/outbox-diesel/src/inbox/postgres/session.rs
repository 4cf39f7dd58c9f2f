//! One transaction on one connection of a pool.

use std::time::Duration;

use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use diesel::result::Error;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use outbox_core::ports::{StorageError, StorageErrorKind};
use tokio::time::timeout;

use crate::postgres::error::{judge, statement_error, timed_out};
use crate::postgres::pool::{Checkout, Pool, only, rows_of};
use crate::sql::{Binds, Sql};

/// The isolation that the inbox's statements count on, whatever the server's default is.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// An open transaction. Dropping it closes the connection, and the server rolls back.
pub(super) struct Session {
    checkout: Checkout,
    limit: Duration,
    /// A statement was given up before its answer: what the connection says next is not an answer to what is asked next.
    is_lost: bool,
}

impl Session {
    /// Takes a connection and begins, with `begin` as the statements. Each call of this session takes `limit` at most.
    pub(super) async fn begin(pool: &Pool, what: &str, limit: Duration, begin: &str) -> Result<Self, StorageError> {
        let work = async {
            let mut checkout = pool.checkout(what).await?;
            AnsiTransactionManager::begin_transaction_sql(checkout.connection(), begin)
                .await
                .map_err(|error| statement_error(what, error))?;
            Ok(Self { checkout, limit, is_lost: false })
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit)))
    }

    pub(super) fn connection(&mut self) -> &mut AsyncPgConnection {
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
        B: Binds<Pg> + Send + 'a,
        R: 'static,
        U: FromSqlRow<R, Pg> + Send + 'a,
    {
        async move {
            match timeout(self.limit, rows_of(self.checkout.connection(), sql)).await {
                Ok(rows) => rows.map_err(|error| statement_error(what, error)),
                Err(_) => {
                    self.is_lost = true;
                    Err(timed_out(what, self.limit))
                }
            }
        }
        .boxed()
    }

    /// As [`load`](Self::load), for a statement that returns exactly one row.
    pub(super) fn one<'a, 'q, U, B, R>(
        &'a mut self,
        what: &'a str,
        sql: Sql<'q, B, R>,
    ) -> BoxFuture<'a, Result<U, StorageError>>
    where
        'q: 'a,
        B: Binds<Pg> + Send + 'a,
        R: 'static,
        U: FromSqlRow<R, Pg> + Send + 'a,
    {
        self.load(what, sql).map(move |rows| only(what, rows?)).boxed()
    }

    /// Whether the transaction that [`begin`](Self::begin) has begun is what the next statement belongs to: no savepoint is left open.
    pub(super) fn is_at_its_top(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(self.checkout.connection());
        !self.is_lost && status.transaction_depth().ok().flatten().is_some_and(|depth| depth.get() == 1)
    }

    /// Commits. Only an error of kind `Conflict` says that nothing was committed.
    pub(super) async fn commit(mut self, what: &str) -> Result<Commit, StorageError> {
        match timeout(self.limit, AnsiTransactionManager::commit_transaction(self.checkout.connection())).await {
            Ok(Ok(())) => {
                self.checkout.give_back();
                Ok(Commit::Done)
            }
            Ok(Err(error)) if is_refusal(&error) => Ok(Commit::Refused),
            Ok(Err(error)) => Err(statement_error(what, error)),
            Err(_) => Err(timed_out(what, self.limit)),
        }
    }

    /// As [`commit`](Self::commit), where no row can be against it.
    pub(super) async fn done(self, what: &str) -> Result<(), StorageError> {
        match self.commit(what).await? {
            Commit::Done => Ok(()),
            Commit::Refused => {
                Err(StorageError::new(StorageErrorKind::Other, format!("cannot {what}: a constraint is against it")))
            }
        }
    }

    /// Whether the server answers; also that the transaction has failed is an answer.
    pub(super) async fn answers(&mut self) -> bool {
        let answer = timeout(self.limit, self.checkout.connection().batch_execute("SELECT 1")).await;
        self.is_lost |= match answer {
            Ok(Ok(())) => false,
            Ok(Err(error)) => judge(&error).0 == StorageErrorKind::Unavailable,
            Err(_) => true,
        };
        !self.is_lost
    }

    /// Rolls back; the connection is closed when that cannot be done in a clean way.
    pub(super) async fn roll_back(mut self) {
        if !self.is_at_its_top() {
            return;
        }
        let work = AnsiTransactionManager::rollback_transaction(self.checkout.connection());
        if let Ok(Ok(())) = timeout(self.limit, work).await {
            self.checkout.give_back();
        }
    }
}

/// What the server said to a commit.
pub(super) enum Commit {
    Done,
    /// A deferred constraint is against it: it was rolled back.
    Refused,
}

fn is_refusal(error: &Error) -> bool {
    use diesel::result::DatabaseErrorKind as Kind;
    let Error::DatabaseError(kind, _) = error else { return false };
    matches!(
        kind,
        Kind::UniqueViolation
            | Kind::ForeignKeyViolation
            | Kind::NotNullViolation
            | Kind::CheckViolation
            | Kind::ExclusionViolation
            | Kind::RestrictViolation
    )
}
