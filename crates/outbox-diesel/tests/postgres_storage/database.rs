//! A database of its own for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::ports::{ReadLimits, Reader, ShardId, Storage};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{EXPECTED_VERSION, postgres};
use outbox_diesel::postgres::{PostgresStorage, PostgresStorageBuilder};
use uuid::Uuid;

pub(crate) const LIMITS: ReadLimits = ReadLimits { rows: 2_000, bytes: 8 << 20, max_message_bytes: 16 << 20 };

/// A migrated database, dropped with this value.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) tables: Tables,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::with_tables(Tables::default()).await
    }

    pub(crate) async fn with_tables(tables: Tables) -> Self {
        let name = format!("outbox_test_{}", Uuid::new_v4().simple());
        let mut server = connect(&server_url()).await;
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a superuser can create a database");
        let database = Self { name, tables };
        postgres::up(&mut database.connection().await, &database.tables, EXPECTED_VERSION).await.expect("migrates");
        database
    }

    pub(crate) fn url(&self) -> String {
        with_database(&server_url(), &self.name)
    }

    /// The URL with another account.
    pub(crate) fn url_of(&self, role: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (_, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        format!("{scheme}://{role}@{host}")
    }

    pub(crate) async fn connection(&self) -> AsyncPgConnection {
        connect(&self.url()).await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.connection().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        number(&mut self.connection().await, sql).await
    }

    /// Waits until every other connection to this database has ended: a backend reports its counters then.
    pub(crate) async fn others_are_gone(&self) {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut connection = self.connection().await;
        while number(&mut connection, others).await > 0 {
            assert!(Instant::now() < deadline, "connections stay open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn builder(&self) -> PostgresStorageBuilder {
        PostgresStorage::builder(self.url()).tables(self.tables.clone())
    }

    pub(crate) fn storage(&self) -> Arc<PostgresStorage> {
        Arc::new(self.builder().build().expect("the URL of the test server is right"))
    }

    /// Appends messages of `keys` keys the way that another language does.
    pub(crate) async fn insert(&self, messages: usize, keys: usize) {
        self.execute(&format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             SELECT 'order', (n % {keys})::text, 'placed', convert_to(repeat('x', 300), 'UTF8') \
             FROM generate_series(1, {messages}) AS n"
        ))
        .await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut server = connect(&server_url()).await;
                server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
            })
        });
        let dropped = dropped.join();
        if !std::thread::panicking() {
            dropped.expect("the server is there").expect("the database can be dropped");
        }
    }
}

pub(crate) fn server_url() -> String {
    std::env::var("OUTBOX_TEST_POSTGRES_URL")
        .expect("OUTBOX_TEST_POSTGRES_URL names no PostgreSQL server: run the tests with `cargo xtask test`")
}

pub(crate) async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.unwrap_or_else(|error| panic!("no connection to the test server: {error}"))
}

pub(crate) async fn number(connection: &mut AsyncPgConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let row: Row = diesel::sql_query(format!("SELECT ({sql})::int8 AS number"))
        .get_result(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    row.number
}

/// The rows of a query with one text column, which must be named `line`.
pub(crate) async fn lines(connection: &mut AsyncPgConnection, sql: &str) -> String {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        line: String,
    }
    let rows: Vec<Row> = diesel::sql_query(sql).load(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.into_iter().map(|row| row.line).collect::<Vec<_>>().join("\n")
}

/// A reader of all shards.
pub(crate) async fn reader(storage: &PostgresStorage) -> Box<dyn Reader> {
    let mut reader = storage.reader().await.expect("a reader");
    reader.assign(&(0..64).map(ShardId).collect::<Vec<_>>());
    reader
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (server, _) =
        base.rsplit_once('/').expect("OUTBOX_TEST_POSTGRES_URL has the form postgres://user@host:port/db");
    format!("{server}/{name}{query}")
}
