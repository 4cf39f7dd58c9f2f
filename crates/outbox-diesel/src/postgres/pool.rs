//! A small pool of connections for one kind of work, with a limit on every wait.

use std::time::Duration;

use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use diesel::result::{ConnectionResult, Error, QueryResult};
use diesel_async::pooled_connection::deadpool::{Object, Pool as DeadPool, PoolError as DeadPoolError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::connector::Connector;
use super::error::{pool_error, statement_error, timed_out};
use crate::sql::{Binds, Sql};

/// What a client waits past the server's own limit, so that the server's answer comes first when it lives.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Connections for one kind of work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: DeadPool<AsyncPgConnection>,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(connector: Connector, size: usize, statement_timeout: Duration) -> Result<Self, StorageError> {
        Self::of(size, statement_timeout, move || {
            let connector = connector.clone();
            async move { connector.connect(statement_timeout).await }.boxed()
        })
    }

    /// Connections for statements that are not ours; see [`Connector::guarded`].
    #[cfg(feature = "inbox")]
    pub(crate) fn guarded(
        connector: Connector,
        size: usize,
        statement_timeout: Duration,
    ) -> Result<Self, StorageError> {
        Self::of(size, statement_timeout, move || {
            let connector = connector.clone();
            async move { connector.guarded().await }.boxed()
        })
    }

    fn of(
        size: usize,
        statement_timeout: Duration,
        connect: impl Fn() -> BoxFuture<'static, ConnectionResult<AsyncPgConnection>> + Send + Sync + 'static,
    ) -> Result<Self, StorageError> {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| connect());
        let manager = AsyncDieselConnectionManager::new_with_config("", config);
        let connections = DeadPool::builder(manager).max_size(size).build().map_err(|error| {
            StorageError::new(StorageErrorKind::Other, "the connection pool cannot be made").with_source(error)
        })?;
        Ok(Self { connections, timeout: statement_timeout + GRACE })
    }

    /// Runs one statement and returns its rows. `what` completes "cannot …".
    ///
    /// When the future is dropped, or anything but an answer of the server comes back, the connection is closed: a later
    /// statement must neither wait behind this one nor meet what it left.
    pub(crate) fn load<'a, 'q, U, B, R>(
        &'a self,
        what: &'a str,
        sql: Sql<'q, B, R>,
    ) -> BoxFuture<'a, Result<Vec<U>, StorageError>>
    where
        'q: 'a,
        B: Binds<Pg> + Send + 'a,
        R: 'static,
        U: FromSqlRow<R, Pg> + Send + 'a,
    {
        self.load_within(what, self.timeout, sql)
    }

    /// As [`load`](Self::load), with a limit of its own. Boxed, so that the types of statements stay out of the ports' futures.
    pub(crate) fn load_within<'a, 'q, U, B, R>(
        &'a self,
        what: &'a str,
        limit: Duration,
        sql: Sql<'q, B, R>,
    ) -> BoxFuture<'a, Result<Vec<U>, StorageError>>
    where
        'q: 'a,
        B: Binds<Pg> + Send + 'a,
        R: 'static,
        U: FromSqlRow<R, Pg> + Send + 'a,
    {
        let work = async move {
            let mut checkout = self.checkout(what).await?;
            match rows_of(checkout.connection(), sql).await {
                Ok(rows) => {
                    checkout.give_back();
                    Ok(rows)
                }
                Err(error) => {
                    let error = statement_error(what, error);
                    if matches!(error.kind(), StorageErrorKind::Conflict | StorageErrorKind::Exhausted) {
                        checkout.give_back();
                    }
                    Err(error)
                }
            }
        };
        async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit))) }.boxed()
    }

    /// As [`load`](Self::load), for a statement that returns exactly one row.
    pub(crate) fn one<'a, 'q, U, B, R>(
        &'a self,
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

    /// A connection for more than one statement; it is closed when dropped without
    /// [`give_back`](Checkout::give_back).
    pub(crate) async fn checkout(&self, what: &str) -> Result<Checkout, StorageError> {
        match self.connections.get().await {
            Ok(object) => Ok(Checkout { object: Some(object) }),
            Err(DeadPoolError::Backend(error)) => Err(pool_error(what, error)),
            Err(other) => {
                Err(StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: no connection is free"))
                    .with_source(other))
            }
        }
    }

    /// How long a statement may take, its connection included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Runs one statement and returns its rows.
pub(crate) async fn rows_of<U, B, R>(connection: &mut AsyncPgConnection, sql: Sql<'_, B, R>) -> QueryResult<Vec<U>>
where
    B: Binds<Pg> + Send,
    R: 'static,
    U: FromSqlRow<R, Pg> + Send,
{
    let mut stream = AsyncConnectionCore::load(connection, sql).await?;
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(U::build_from_row(&row).map_err(Error::DeserializationError)?);
    }
    Ok(rows)
}

/// The only row of a reply.
pub(crate) fn only<U>(what: &str, rows: Vec<U>) -> Result<U, StorageError> {
    rows.into_iter()
        .next()
        .ok_or_else(|| StorageError::new(StorageErrorKind::Other, format!("cannot {what}: the reply has no row")))
}

/// A connection that is out of the pool.
pub(crate) struct Checkout {
    object: Option<Object<AsyncPgConnection>>,
}

impl Checkout {
    pub(crate) fn connection(&mut self) -> &mut AsyncPgConnection {
        self.object.as_mut().expect("the connection is there until it is given back")
    }

    pub(crate) fn give_back(mut self) {
        self.object = None;
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}
