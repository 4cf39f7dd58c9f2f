//! The contract of the ports, kept with the grants of `docs/roles.md`.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::inbox::mysql::MysqlInbox;
use outbox_testkit::BoxError;
use outbox_testkit::inbox_storage_suite::{self, InboxDatabase, InboxStorageFixture};
use time::OffsetDateTime;

use crate::database::{Database, elsewhere};
use crate::roles::ConsumerAccount;

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_keeps_the_contract_of_its_ports() {
    let account = ConsumerAccount::create().await;
    inbox_storage_suite::run(&Mysql { account }).await;
}

struct Mysql {
    account: ConsumerAccount,
}

#[async_trait]
impl InboxStorageFixture for Mysql {
    type Storage = MysqlInbox;

    async fn fresh(&self) -> Result<Box<dyn InboxDatabase<MysqlInbox>>, BoxError> {
        let database = Database::with_tables(elsewhere()).await;
        self.account.grant(&database).await;
        // what the suite's handlers do
        let own = format!("GRANT INSERT ON effects TO {0}; GRANT SELECT, UPDATE ON balances TO {0}", self.account.name);
        database.batch(&own).await;
        let storage = Arc::new(self.account.inbox(&database).build()?);
        Ok(Box::new(Subject { database, storage }))
    }
}

struct Subject {
    database: Database,
    storage: Arc<MysqlInbox>,
}

#[async_trait]
impl InboxDatabase<MysqlInbox> for Subject {
    fn storage(&self) -> Arc<MysqlInbox> {
        self.storage.clone()
    }

    fn concurrent_transactions(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut AsyncMysqlConnection, effect: &str) -> Result<(), BoxError> {
        let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES (?)").bind::<Text, _>(effect);
        insert.execute(connection).await?;
        Ok(())
    }

    async fn touch(&self, connection: &mut AsyncMysqlConnection, row: u8) -> Result<(), BoxError> {
        let update = diesel::sql_query("UPDATE balances SET amount = amount + 1 WHERE account = ?");
        update.bind::<Text, _>(row.to_string()).execute(connection).await?;
        Ok(())
    }

    async fn swallow_an_error(&self, connection: &mut AsyncMysqlConnection) {
        connection.batch_execute("ROLLBACK").await.expect("what a deadlock does");
    }

    async fn effects(&self) -> Result<Vec<String>, BoxError> {
        Ok(self.database.lines("SELECT effect AS line FROM effects ORDER BY effect").await)
    }

    async fn age(&self, by: time::Duration) -> Result<(), BoxError> {
        let sql = self
            .storage
            .tables()
            .render("UPDATE {{messages}} SET processed_at = processed_at - INTERVAL ? MICROSECOND");
        let micros = i64::try_from(by.whole_microseconds())?;
        diesel::sql_query(sql).bind::<BigInt, _>(micros).execute(&mut self.database.connection().await).await?;
        Ok(())
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        let micros = self.database.number("SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))").await;
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)?)
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}
