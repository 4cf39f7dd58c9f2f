//! A schema of its own in the scratch PostgreSQL.

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{EXPECTED_VERSION, postgres};
use uuid::Uuid;

/// Dropped with this value.
pub struct Schema {
    pub tables: Tables,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Schema {
    /// Tables that nobody made yet, with a prefix that is not the default.
    pub fn unused() -> Self {
        let schema = format!("t_{}", Uuid::new_v4().simple());
        Self { tables: Tables::new(Some(&schema), "evt_").unwrap() }
    }

    pub async fn migrated() -> Self {
        let schema = Self::unused();
        postgres::up(&mut connect().await, &schema.tables, EXPECTED_VERSION).await.unwrap();
        schema
    }

    pub fn name(&self) -> &str {
        self.tables.schema().unwrap()
    }

    /// A number from a statement with the tokens of [`Tables::render`].
    pub async fn count(&self, sql: &str) -> i64 {
        count(&mut connect().await, &self.tables.render(sql)).await
    }

    pub async fn messages(&self) -> i64 {
        self.count("SELECT count(*) AS n FROM {{messages}}").await
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.name());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect().await.batch_execute(&sql).await })
        });
        let result = dropped.join();
        if !std::thread::panicking() {
            result.expect("a connection").expect("the schema can be dropped");
        }
    }
}

pub fn url() -> String {
    std::env::var("OUTBOX_TEST_POSTGRES_URL").expect(
        "OUTBOX_TEST_POSTGRES_URL is not set: run the tests with `cargo xtask test`, or start a PostgreSQL and set it",
    )
}

pub async fn connect() -> AsyncPgConnection {
    let url = url();
    AsyncPgConnection::establish(&url)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to OUTBOX_TEST_POSTGRES_URL: {error}"))
}

pub async fn count(conn: &mut AsyncPgConnection, sql: &str) -> i64 {
    diesel::sql_query(sql).get_result::<Count>(conn).await.unwrap_or_else(|error| panic!("{sql}: {error}")).n
}
