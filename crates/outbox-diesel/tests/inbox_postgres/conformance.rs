//! The contract of the ports, kept with the grants of `docs/roles.md`.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::postgres::PostgresInbox;
use outbox_testkit::BoxError;
use outbox_testkit::inbox_storage_suite::{self, InboxDatabase, InboxStorageFixture};
use time::OffsetDateTime;

use crate::database::Database;
use crate::roles::ConsumerRole;

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_keeps_the_contract_of_its_ports() {
    let role = ConsumerRole::create().await;
    inbox_storage_suite::run(&Postgres { role }).await;
}

struct Postgres {
    role: ConsumerRole,
}

#[async_trait]
impl InboxStorageFixture for Postgres {
    type Storage = PostgresInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<PostgresInbox>>, BoxError> {
        let database = Database::with_tables(InboxTables::new(Some("billing"), "in_")?).await;
        self.role.grant(&database).await;
        // what the suite's handlers do
        let own = format!("GRANT INSERT ON effects TO {0}; GRANT SELECT, UPDATE ON balances TO {0}", self.role.name);
        database.batch(&own).await;
        let storage = PostgresInbox::builder(self.role.url(&database)).tables(database.tables.clone()).build()?;
        let storage = Arc::new(storage);
        Ok(Box::new(Subject { database, storage }))
    }
}

struct Subject {
    database: Database,
    storage: Arc<PostgresInbox>,
}

#[async_trait]
impl InboxDatabase<PostgresInbox> for Subject {
    fn storage(&self) -> Arc<PostgresInbox> {
        self.storage.clone()
    }

    fn concurrent_transactions(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut AsyncPgConnection, effect: &str) -> Result<(), BoxError> {
        let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES ($1)").bind::<Text, _>(effect);
        insert.execute(connection).await?;
        Ok(())
    }

    async fn touch(&self, connection: &mut AsyncPgConnection, row: u8) -> Result<(), BoxError> {
        let update = diesel::sql_query("UPDATE balances SET amount = amount + 1 WHERE account = $1");
        update.bind::<Text, _>(row.to_string()).execute(connection).await?;
        Ok(())
    }

    async fn swallow_an_error(&self, connection: &mut AsyncPgConnection) {
        assert!(connection.batch_execute("SELECT 1 / 0").await.is_err());
    }

    async fn effects(&self) -> Result<Vec<String>, BoxError> {
        Ok(self.database.lines("SELECT effect AS line FROM effects ORDER BY effect").await)
    }

    async fn age(&self, by: time::Duration) -> Result<(), BoxError> {
        let sql = self
            .database
            .tables
            .render("UPDATE {{messages}} SET processed_at = processed_at - $1 * interval '1 microsecond'");
        let micros = i64::try_from(by.whole_microseconds())?;
        diesel::sql_query(sql).bind::<BigInt, _>(micros).execute(&mut self.database.connection().await).await?;
        Ok(())
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        let micros = self.database.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8").await;
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)?)
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}
