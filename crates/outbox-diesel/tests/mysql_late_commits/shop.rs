//! A database of its own with the outbox and a counter per key, on MySQL or MariaDB.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{EXPECTED_VERSION, mysql};
use outbox_diesel::mysql::{MysqlOutbox, MysqlStorage, establish};
use uuid::Uuid;

use crate::writers::Stop;

/// A writer's connection.
pub(crate) type Connection = AsyncMysqlConnection;

/// What a writer appends with.
pub(crate) type Outbox = MysqlOutbox;

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
        mysql::up(&mut conn, &Tables::default(), EXPECTED_VERSION).await.expect("the migrations run");
        let keys: Vec<_> = (0..KEYS).map(|key| format!("({key}, 0)")).collect();
        let counters = format!(
            "CREATE TABLE counters (number int PRIMARY KEY, n bigint NOT NULL) ENGINE = InnoDB; \
             INSERT INTO counters VALUES {}",
            keys.join(", ")
        );
        conn.batch_execute(&counters).await.expect("the business table is made");
        shop
    }

    pub(crate) async fn connection(&self) -> Connection {
        connect(&self.url()).await
    }

    pub(crate) fn storage(&self) -> MysqlStorage {
        MysqlStorage::builder(self.url()).build().expect("the URL of the test server is right")
    }

    pub(crate) async fn pending(&self) -> i64 {
        let count = diesel::sql_query("SELECT count(*) AS number FROM outbox_messages");
        count.get_result::<Number>(&mut self.connection().await).await.expect("the outbox is counted").number
    }

    /// What is left, one line a shard.
    pub(crate) async fn left(&self) -> String {
        let lines = "SELECT concat('shard ', shard, ' owned by ', coalesce(hex(owner), 'nobody'), ': ', count(*), ' messages of ', \
                     count(DISTINCT aggregate_id), ' keys, seq ', min(seq), ' to ', max(seq)) AS line \
                     FROM outbox_messages JOIN outbox_leases USING (shard) GROUP BY shard, owner ORDER BY shard";
        let lines: Vec<Line> = diesel::sql_query(lines).load(&mut self.connection().await).await.expect("what is left");
        lines.into_iter().map(|line| line.line + "\n").collect()
    }

    fn url(&self) -> String {
        let url = server_url();
        let (scheme, rest) = url.split_once("://").expect("OUTBOX_TEST_MYSQL_URL has the form mysql://user@host:port");
        let server = rest.split(['/', '?']).next().unwrap_or(rest);
        format!("{scheme}://{server}/{}", self.name)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {}", self.name);
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
///
/// The counter comes back without a read of the table: that would open a snapshot, and at `REPEATABLE READ`, the servers' default, MariaDB
/// 11.6 ends a transaction (1020) that locks a row which has changed since.
pub(crate) async fn lock_and_count(conn: &mut Connection, key: usize, count: i64) -> Result<i64, Stop> {
    let key = i32::try_from(key).unwrap_or(i32::MAX);
    diesel::sql_query("UPDATE counters SET n = last_insert_id(n + ?) WHERE number = ?")
        .bind::<BigInt, _>(count)
        .bind::<Integer, _>(key)
        .execute(conn)
        .await?;
    let counter: Number =
        diesel::sql_query("SELECT CAST(last_insert_id() AS signed) AS number").get_result(conn).await?;
    Ok(counter.number)
}

async fn connect(url: &str) -> Connection {
    establish(url).await.expect("MySQL or MariaDB answers at OUTBOX_TEST_MYSQL_URL")
}

fn server_url() -> String {
    std::env::var("OUTBOX_TEST_MYSQL_URL")
        .expect("OUTBOX_TEST_MYSQL_URL is not set: run the tests with `cargo xtask test`")
}
