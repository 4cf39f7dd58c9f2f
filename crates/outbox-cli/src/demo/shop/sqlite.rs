use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use diesel::{SqliteConnection, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection, sync_connection_wrapper::SyncConnectionWrapper};
use outbox::{
    SqliteOutbox, SqliteStorage, Storage, Tables,
    migrations::{self, EXPECTED_VERSION, PendingRows},
    sqlite::establish,
};
use uuid::Uuid;

use super::{Shop, Stop, Writer, ended, sql};
use crate::demo::verify::Recorded;

/// How long a writer tries to get its turn.
const TURN_LIMIT: Duration = Duration::from_secs(60);

type Connection = SyncConnectionWrapper<SqliteConnection>;

pub(super) struct SqliteShop {
    path: PathBuf,
    tables: Tables,
    sql: Arc<sql::Sql>,
}

struct SqliteWriter {
    connection: Connection,
    outbox: SqliteOutbox,
    sql: Arc<sql::Sql>,
}

impl SqliteShop {
    pub(super) async fn create(path: &Path, prefix: &str, tables: Tables) -> Result<Self> {
        let shop = Self { path: path.to_owned(), tables, sql: Arc::new(sql::Sql::new(prefix)) };
        let mut connection = establish(path).await?;
        migrations::sqlite::up(&mut connection, &shop.tables, EXPECTED_VERSION).await?;
        connection.batch_execute(&shop.sql.create()).await.context("cannot make the demo's tables")?;
        Ok(shop)
    }
}

#[async_trait]
impl Shop for SqliteShop {
    async fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(SqliteStorage::builder(&self.path).tables(self.tables.clone()).connect().await?))
    }

    async fn writer(&self) -> Result<Box<dyn Writer>> {
        let outbox = SqliteOutbox::new(self.tables.clone())?;
        Ok(Box::new(SqliteWriter { connection: establish(&self.path).await?, outbox, sql: self.sql.clone() }))
    }

    async fn record(&self) -> Result<Vec<Recorded>> {
        sql::recorded(sql_query(self.sql.read_record()).load(&mut establish(&self.path).await?).await?)
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = establish(&self.path).await?;
        connection.batch_execute(&self.sql.remove()).await?;
        migrations::sqlite::down(&mut connection, &self.tables, 0, PendingRows::Delete).await?;
        Ok(())
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>> {
        let begun = Instant::now();
        loop {
            match self.try_change(orders, roll_back).await {
                Err(Stop::Failed(error)) if begun.elapsed() < TURN_LIMIT && is_busy(&error) => {}
                result => return ended(result),
            }
        }
    }
}

impl SqliteWriter {
    async fn try_change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>, Stop> {
        let (sql, outbox) = (&self.sql, &self.outbox);
        let transaction = self.connection.immediate_transaction(async |conn| {
            let versions: Vec<sql::Version> = sql_query(sql.change(orders)).load(conn).await?;
            let ids = outbox.append_all(conn, &sql::messages(&versions)?).await?;
            sql_query(sql.record(&versions, &ids)).execute(conn).await?;
            if roll_back { Err(Stop::OnPurpose(ids)) } else { Ok(ids) }
        });
        transaction.await
    }
}

/// SQLite has one writer at a time and no queue for the others: on a slow disk one can lose every race until its time-out ends.
/// Diesel has no kind for it.
fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("database is locked"))
}
