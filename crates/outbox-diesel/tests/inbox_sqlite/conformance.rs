//! The contract of the ports.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::sqlite::{SqliteInbox, SqliteInboxConnection};
use outbox_testkit::BoxError;
use outbox_testkit::inbox_storage_suite::{self, InboxDatabase, InboxStorageFixture};
use time::OffsetDateTime;

use crate::database::{Database, try_apply};

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_keeps_the_contract_of_its_ports() {
    inbox_storage_suite::run(&Sqlite).await;
}

#[tokio::test]
async fn the_storage_keeps_the_contract_of_its_ports_on_one_thread() {
    inbox_storage_suite::run(&Sqlite).await;
}

struct Sqlite;

#[async_trait]
impl InboxStorageFixture for Sqlite {
    type Storage = SqliteInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<SqliteInbox>>, BoxError> {
        let database = Database::with_tables(InboxTables::new(None, "in_")?);
        let storage = database.storage();
        Ok(Box::new(Subject { database, storage }))
    }
}

struct Subject {
    database: Database,
    storage: Arc<SqliteInbox>,
}

#[async_trait]
impl InboxDatabase<SqliteInbox> for Subject {
    fn storage(&self) -> Arc<SqliteInbox> {
        self.storage.clone()
    }

    fn concurrent_transactions(&self) -> bool {
        false
    }

    async fn apply(&self, connection: &mut SqliteInboxConnection, effect: &str) -> Result<(), BoxError> {
        Ok(try_apply(connection, effect).await?)
    }

    async fn touch(&self, connection: &mut SqliteInboxConnection, row: u8) -> Result<(), BoxError> {
        let update = sql_query("UPDATE balances SET amount = amount + 1 WHERE account = ?");
        update.bind::<Text, _>(row.to_string()).execute(connection).await?;
        Ok(())
    }

    async fn swallow_an_error(&self, connection: &mut SqliteInboxConnection) {
        connection.batch_execute("ROLLBACK").await.expect("a transaction is open");
    }

    async fn effects(&self) -> Result<Vec<String>, BoxError> {
        Ok(self.database.lines("SELECT effect AS line FROM effects ORDER BY effect"))
    }

    async fn age(&self, by: time::Duration) -> Result<(), BoxError> {
        let sql = self.database.tables.render("UPDATE {{messages}} SET processed_at = processed_at - ?");
        let micros = i64::try_from(by.whole_microseconds())?;
        diesel::RunQueryDsl::execute(sql_query(sql).bind::<BigInt, _>(micros), &mut self.database.connection())?;
        Ok(())
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        let millis = self.database.number(
            "CAST(strftime('%s', 'now') AS INTEGER) * 1000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER)",
        );
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)?)
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        let Self { database, storage } = *self;
        drop(storage);
        Ok(database.remove()?)
    }
}
