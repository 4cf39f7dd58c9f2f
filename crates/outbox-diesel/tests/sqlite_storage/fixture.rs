//! What the conformance suite needs of SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use outbox_core::NewMessage;
use outbox_core::ports::{ShardId, Storage};
use outbox_diesel::Tables;
use outbox_diesel::sqlite::{SqliteOutbox, SqliteStorage, establish_sync};
use outbox_testkit::BoxError;
use outbox_testkit::storage_suite::{PendingRow, StorageFixture, TestDatabase, TestTransaction};
use time::OffsetDateTime;

use super::support::Database;

/// The fixture of the conformance suite.
pub struct SqliteFixture;

struct SuiteDatabase {
    database: Database,
    storage: Arc<SqliteStorage>,
}

struct Transaction {
    conn: Option<SqliteConnection>,
    outbox: SqliteOutbox,
}

#[derive(QueryableByName)]
struct Pending {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = BigInt)]
    millis: i64,
}

#[async_trait]
impl StorageFixture for SqliteFixture {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        let database = Database::with_tables(Tables::new(None, "suite_")?);
        let storage = Arc::new(database.storage().await);
        Ok(Box::new(SuiteDatabase { database, storage }))
    }
}

#[async_trait]
impl TestDatabase for SuiteDatabase {
    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        let path = self.database.path();
        let conn = tokio::task::spawn_blocking(move || -> Result<_, BoxError> {
            let mut conn = establish_sync(path)?;
            conn.batch_execute("BEGIN IMMEDIATE")?;
            Ok(conn)
        })
        .await??;
        let outbox = SqliteOutbox::new(self.database.tables.clone())?;
        Ok(Box::new(Transaction { conn: Some(conn), outbox }))
    }

    fn concurrent_writers(&self) -> bool {
        false
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        let clock: Clock = sql_query(
            "SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 \
             + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) AS millis",
        )
        .get_result(&mut self.database.connect())?;
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(clock.millis) * 1_000_000)?)
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        let query = self.database.tables.render("SELECT seq, id, attempts FROM {{messages}}");
        let rows: Vec<Pending> = sql_query(query).load(&mut self.database.connect())?;
        rows.into_iter()
            .map(|row| {
                Ok(PendingRow {
                    shard: ShardId(0),
                    seq: row.seq,
                    id: row.id.parse()?,
                    attempts: row.attempts.try_into()?,
                })
            })
            .collect()
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        let Self { database, storage } = *self;
        drop(storage);
        database.remove()
    }
}

#[async_trait]
impl TestTransaction for Transaction {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        let conn = self.conn.as_mut().ok_or("the transaction has ended")?;
        self.outbox.append_sync(conn, message)?;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), BoxError> {
        let mut conn = self.conn.take().ok_or("the transaction has ended")?;
        tokio::task::spawn_blocking(move || conn.batch_execute("COMMIT")).await??;
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), BoxError> {
        let mut conn = self.conn.take().ok_or("the transaction has ended")?;
        tokio::task::spawn_blocking(move || conn.batch_execute("ROLLBACK")).await??;
        Ok(())
    }
}
