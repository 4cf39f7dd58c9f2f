//! A database of its own for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::inbox::{Consumer, TransactionLimits};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, postgres};
use outbox_diesel::inbox::postgres::{PostgresInbox, PostgresInboxBuilder};
use uuid::Uuid;

/// What handlers get.
pub(crate) type Connection = AsyncPgConnection;
/// A handler's effect.
pub(crate) const INSERT_EFFECT: &str = "INSERT INTO effects (effect) VALUES ($1)";
/// Ends the connection on which it is executed.
pub(crate) const END_CONNECTION: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

pub(crate) const LIMITS: TransactionLimits =
    TransactionLimits { statement: Duration::from_secs(20), lock: Duration::from_secs(20) };

/// A migrated database, dropped with this value.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) tables: InboxTables,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::with_tables(InboxTables::default()).await
    }

    pub(crate) async fn with_tables(tables: InboxTables) -> Self {
        let database = Self::empty(tables).await;
        let mut connection = database.connection().await;
        postgres::up(&mut connection, &database.tables, EXPECTED_INBOX_VERSION).await.expect("migrates");
        let own = "CREATE TABLE effects (effect text NOT NULL); \
            CREATE TABLE balances (account text PRIMARY KEY, amount bigint NOT NULL); \
            INSERT INTO balances VALUES ('0', 0), ('1', 0)";
        connection.batch_execute(own).await.expect("the handlers' own tables");
        database
    }

    pub(crate) async fn empty(tables: InboxTables) -> Self {
        let name = format!("inbox_test_{}", Uuid::new_v4().simple());
        let mut server = connect(&server_url()).await;
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a superuser can create a database");
        Self { name, tables }
    }

    pub(crate) fn url(&self) -> String {
        with_database(&server_url(), &self.name)
    }

    pub(crate) async fn connection(&self) -> AsyncPgConnection {
        connect(&self.url()).await
    }

    pub(crate) async fn batch(&self, sql: &str) {
        self.connection().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let row: Row = diesel::sql_query(format!("SELECT ({sql})::int8 AS number"))
            .get_result(&mut self.connection().await)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.number
    }

    /// The rows of a query with one text column, which must be named `line`.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            line: String,
        }
        let rows: Vec<Row> = diesel::sql_query(sql)
            .load(&mut self.connection().await)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.line).collect()
    }

    pub(crate) fn builder(&self) -> PostgresInboxBuilder {
        PostgresInbox::builder(self.url()).tables(self.tables.clone())
    }

    pub(crate) fn storage(&self) -> Arc<PostgresInbox> {
        Arc::new(self.builder().build().expect("the URL of the test server is right"))
    }

    /// Waits until the query returns this number.
    pub(crate) async fn until(&self, sql: &str, number: i64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.number(sql).await;
            if found == number {
                return;
            }
            assert!(Instant::now() < deadline, "{sql} is {found} and never became {number}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

pub(crate) fn consumer() -> Consumer {
    Consumer::new("billing").expect("a valid name")
}

pub(crate) fn server_url() -> String {
    std::env::var("OUTBOX_TEST_POSTGRES_URL")
        .expect("OUTBOX_TEST_POSTGRES_URL names no PostgreSQL server: run the tests with `cargo xtask test`")
}

pub(crate) async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.unwrap_or_else(|error| panic!("no connection to the test server: {error}"))
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (server, _) =
        base.rsplit_once('/').expect("OUTBOX_TEST_POSTGRES_URL has the form postgres://user@host:port/db");
    format!("{server}/{name}{query}")
}
