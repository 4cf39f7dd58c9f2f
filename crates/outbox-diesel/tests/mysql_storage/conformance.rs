//! The contract of the ports.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Integer, SmallInt};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::NewMessage;
use outbox_core::ports::{ShardId, Storage};
use outbox_diesel::mysql::{MysqlOutbox, MysqlStorage};
use outbox_testkit::BoxError;
use outbox_testkit::storage_suite::{self, PendingRow, StorageFixture, TestDatabase, TestTransaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::{Database, number};

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_keeps_the_contract_of_its_ports() {
    storage_suite::run(&Mysql).await;
}

struct Mysql;

#[async_trait]
impl StorageFixture for Mysql {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        let database = Database::with_prefix("evt_").await;
        let storage = database.storage();
        Ok(Box::new(Subject { database, storage }))
    }
}

struct Subject {
    database: Database,
    storage: Arc<MysqlStorage>,
}

#[async_trait]
impl TestDatabase for Subject {
    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        let mut connection = self.database.connection().await;
        connection.batch_execute("BEGIN").await?;
        Ok(Box::new(Transaction { connection, outbox: MysqlOutbox::new(self.database.tables.clone()) }))
    }

    fn concurrent_writers(&self) -> bool {
        true
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        let mut connection = self.database.connection().await;
        let micros = number(&mut connection, "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))").await;
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)?)
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        let sql = format!("SELECT shard, seq, id, attempts FROM {}", self.database.tables.messages());
        let rows: Vec<Row> = diesel::sql_query(sql).load(&mut self.database.connection().await).await?;
        rows.into_iter()
            .map(|row| {
                let (shard, attempts) = (ShardId(u16::try_from(row.shard)?), u32::try_from(row.attempts)?);
                Ok(PendingRow { shard, seq: row.seq, id: Uuid::from_slice(&row.id)?, attempts })
            })
            .collect()
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SmallInt)]
    shard: i16,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
}

struct Transaction {
    connection: AsyncMysqlConnection,
    outbox: MysqlOutbox,
}

#[async_trait]
impl TestTransaction for Transaction {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        self.outbox.append(&mut self.connection, message).await?;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.connection.batch_execute("COMMIT").await?)
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.connection.batch_execute("ROLLBACK").await?)
    }
}
