//! The connections of handlers: Diesel's, with the server's own settings but for what each transaction sets.

use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Object, Pool as DeadPool, PoolError, RecycleError, RecycleResult};
use diesel_async::{AsyncMysqlConnection, SimpleAsyncConnection};
use mysql_async::prelude::Queryable;
use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::mysql::connector::Connector;

/// A connection that was idle for longer is asked whether it lives before a statement is sent.
const IDLE: Duration = Duration::from_secs(1);

/// How long that question may take.
const PING: Duration = Duration::from_secs(2);

/// Connections for transactions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    connections: DeadPool<Connections>,
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Result<Self, StorageError> {
        let connections = DeadPool::builder(Connections { connector }).max_size(size).build().map_err(|error| {
            StorageError::new(StorageErrorKind::Other, "the connection pool cannot be made").with_source(error)
        })?;
        Ok(Self { connections })
    }

    pub(super) async fn checkout(&self, what: &str) -> Result<Checkout, StorageError> {
        match self.connections.get().await {
            Ok(object) => {
                Ok(Checkout { object: Some(object), connector: self.connections.manager().connector.clone() })
            }
            Err(PoolError::Backend(error)) => {
                Err(StorageError::new(error.kind(), format!("cannot {what}")).with_source(error))
            }
            Err(other) => {
                Err(StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: no connection is free"))
                    .with_source(other))
            }
        }
    }
}

struct Connections {
    connector: Connector,
}

/// A connection, and its number on the server.
struct Numbered {
    connection: AsyncMysqlConnection,
    id: u32,
}

impl Manager for Connections {
    type Type = Numbered;
    type Error = StorageError;

    async fn create(&self) -> Result<Numbered, StorageError> {
        let conn = self.connector.plain("connect").await?;
        let id = conn.id();
        let connection = AsyncMysqlConnection::try_from(conn).await.map_err(|error| {
            StorageError::new(StorageErrorKind::Unavailable, "cannot connect: no session").with_source(error)
        })?;
        Ok(Numbered { connection, id })
    }

    async fn recycle(&self, numbered: &mut Numbered, metrics: &Metrics) -> RecycleResult<StorageError> {
        if Instant::now().duration_since(metrics.recycled.unwrap_or(metrics.created)) < IDLE {
            return Ok(());
        }
        match tokio::time::timeout(PING, numbered.connection.batch_execute("DO 1")).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(RecycleError::message("the connection was lost")),
        }
    }
}

/// A connection that is out of the pool. Dropped without [`give_back`](Self::give_back) it is ended on the server too: a statement that
/// runs there would otherwise hold its locks until it comes to its end by itself.
pub(super) struct Checkout {
    object: Option<Object<Connections>>,
    connector: Connector,
}

impl Checkout {
    pub(super) fn connection(&mut self) -> &mut AsyncMysqlConnection {
        &mut self.object.as_mut().expect("the connection is there until it is given back").connection
    }

    pub(super) fn give_back(mut self) {
        self.object = None;
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let Numbered { connection, id } = Object::take(object);
        drop(connection);
        let connector = self.connector.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(mut conn) = connector.plain("end a connection").await {
                    // one that is gone already is as good
                    let _ = conn.query_drop(format!("KILL {id}")).await;
                    let _ = conn.disconnect().await;
                }
            });
        }
    }
}
