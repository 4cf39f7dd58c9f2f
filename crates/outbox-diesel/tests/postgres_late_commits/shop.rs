//! A database of its own with the outbox and a counter per key, on PostgreSQL.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{EXPECTED_VERSION, postgres};
use outbox_diesel::postgres::{PostgresOutbox, PostgresStorage};
use uuid::Uuid;

use crate::writers::Stop;

/// A writer's connection.
pub(crate) type Connection = AsyncPgConnection;

/// What a writer appends with.
pub(crate) type Outbox = PostgresOutbox;

/// Ordering keys.
pub(crate) const KEYS: usize = 200;

/// Dropped with this value.
pub(crate) struct Shop {
    name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl Shop {
    pub(crate) async fn create() -> Self {
        let shop = Self { name: format!("outbox_late_{}", Uuid::new_v4().simple()) };
        let mut server = connect(&server_url()).await;
        server.batch_execute(&format!("CREATE DATABASE {}", shop.name)).await.expect("a superuser creates a database");
        let mut conn = shop.connection().await;
        postgres::up(&mut conn, &Tables::default(), EXPECTED_VERSION).await.expect("the migrations run");
        let counters = format!(
            "CREATE TABLE counters (key int PRIMARY KEY, n bigint NOT NULL); \
             INSERT INTO counters SELECT key, 0 FROM generate_series(0, {KEYS} - 1) AS key"
        );
        conn.batch_execute(&counters).await.expect("the business table is made");
        shop
    }

    pub(crate) async fn connection(&self) -> AsyncPgConnection {
        connect(&self.url()).await
    }

    pub(crate) fn storage(&self) -> PostgresStorage {
        PostgresStorage::builder(self.url()).build().expect("the URL of the test server is right")
    }

    pub(crate) async fn pending(&self) -> i64 {
        let count = diesel::sql_query("SELECT count(*) AS number FROM outbox_messages");
        count.get_result::<Number>(&mut self.connection().await).await.expect("the outbox is counted").number
    }

    /// What is left, one line a shard.
    pub(crate) async fn left(&self) -> String {
        let lines = "SELECT format('shard %s owned by %s: %s messages of %s keys, seq %s to %s', shard, owner, count(*), \
                     count(DISTINCT aggregate_id), min(seq), max(seq)) AS line \
                     FROM outbox_messages JOIN outbox_leases USING (shard) GROUP BY shard, owner ORDER BY shard";
        let lines: Vec<Line> = diesel::sql_query(lines).load(&mut self.connection().await).await.expect("what is left");
        lines.into_iter().map(|line| line.line + "\n").collect()
    }

    fn url(&self) -> String {
        let url = server_url();
        let (server, _) = url.rsplit_once('/').expect("OUTBOX_TEST_POSTGRES_URL ends with a database");
        format!("{server}/{}", self.name)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // An async connection cannot be used in a destructor, so a thread with a runtime of its own does it.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { connect(&server_url()).await.batch_execute(&drop).await.expect("it is dropped") });
        });
        if dropped.join().is_err() && !std::thread::panicking() {
            panic!("database {} is left behind", self.name);
        }
    }
}

/// Takes the key's row lock, which holds the key's other writers until the commit.
pub(crate) async fn lock_and_count(conn: &mut Connection, key: usize, count: i64) -> Result<i64, Stop> {
    let counter: Number = diesel::sql_query("UPDATE counters SET n = n + $1 WHERE key = $2 RETURNING n AS number")
        .bind::<BigInt, _>(count)
        .bind::<Integer, _>(i32::try_from(key).unwrap_or(i32::MAX))
        .get_result(conn)
        .await?;
    Ok(counter.number)
}

async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.expect("PostgreSQL answers at OUTBOX_TEST_POSTGRES_URL")
}

fn server_url() -> String {
    std::env::var("OUTBOX_TEST_POSTGRES_URL")
        .expect("OUTBOX_TEST_POSTGRES_URL is not set: run the tests with `cargo xtask test`")
}
