//! A database of its own for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::inbox::{Consumer, TransactionLimits};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::migrations::{EXPECTED_INBOX_VERSION, mysql};
use outbox_diesel::inbox::mysql::{MysqlInbox, MysqlInboxBuilder};
use outbox_diesel::mysql::establish;
use uuid::Uuid;

/// What handlers get.
pub(crate) type Connection = AsyncMysqlConnection;
/// A handler's effect.
pub(crate) const INSERT_EFFECT: &str = "INSERT INTO effects (effect) VALUES (?)";
/// Ends the connection on which it is executed.
pub(crate) const END_CONNECTION: &str = "KILL CONNECTION_ID()";

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
        mysql::up(&mut connection, &database.tables, EXPECTED_INBOX_VERSION).await.expect("migrates");
        let own = "CREATE TABLE effects (effect varchar(255) COLLATE utf8mb4_bin NOT NULL, n bigint AUTO_INCREMENT PRIMARY KEY) \
            ENGINE = InnoDB; \
            CREATE TABLE balances (account varchar(100) PRIMARY KEY, amount bigint NOT NULL) ENGINE = InnoDB; \
            INSERT INTO balances VALUES ('0', 0), ('1', 0)";
        connection.batch_execute(own).await.expect("the handlers' own tables");
        database
    }

    pub(crate) async fn empty(tables: InboxTables) -> Self {
        let name = format!("inbox_test_{}", Uuid::new_v4().simple());
        let mut server = connect(&server_url()).await;
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        server.batch_execute(&create).await.expect("a superuser can create a database");
        Self { name, tables }
    }

    pub(crate) fn url(&self) -> String {
        with_database(&server_url(), &self.name)
    }

    /// The URL with another account.
    pub(crate) fn url_of(&self, account: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (_, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        format!("{scheme}://{account}@{host}")
    }

    pub(crate) async fn connection(&self) -> AsyncMysqlConnection {
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
        let row: Row = diesel::sql_query(format!("SELECT CAST(({sql}) AS signed) AS number"))
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

    pub(crate) fn builder(&self) -> MysqlInboxBuilder {
        MysqlInbox::builder(self.url()).tables(self.tables.clone())
    }

    pub(crate) fn storage(&self) -> Arc<MysqlInbox> {
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

    /// The list of connections. MySQL refuses to read the older one while a statement in it holds bytes that are no text.
    pub(crate) async fn processlist(&self) -> &'static str {
        let is_mariadb = self.number("SELECT version() LIKE '%MariaDB%'").await != 0;
        if is_mariadb { "information_schema.processlist" } else { "performance_schema.processlist" }
    }

    /// Ends every connection to this database but the one that asks.
    pub(crate) async fn kill_all(&self) {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let mut connection = connect(&server_url()).await;
        let list = self.processlist().await;
        let all = format!("SELECT CAST(id AS signed) AS id FROM {list} WHERE db = '{}'", self.name);
        let rows: Vec<Row> = diesel::sql_query(all).load(&mut connection).await.expect("the connections are listed");
        assert!(!rows.is_empty(), "there is something to kill");
        for Row { id } in rows {
            // one that has ended by itself meanwhile is as good
            let _ = connection.batch_execute(&format!("KILL {id}")).await;
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut names = vec![self.name.clone()];
        names.extend(self.tables.schema().map(str::to_owned));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut server = connect(&server_url()).await;
                for name in names {
                    server.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await?;
                }
                Ok::<_, diesel::result::Error>(())
            })
        });
        let dropped = dropped.join();
        if !std::thread::panicking() {
            dropped.expect("the server is there").expect("the database can be dropped");
        }
    }
}

/// Tables in a schema, which is a database of its own, and with a prefix.
pub(crate) fn elsewhere() -> InboxTables {
    let schema = format!("inbox_test_{}", Uuid::new_v4().simple());
    InboxTables::new(Some(&schema), "in_").expect("plain names")
}

pub(crate) fn consumer() -> Consumer {
    Consumer::new("billing").expect("a valid name")
}

pub(crate) fn server_url() -> String {
    std::env::var("OUTBOX_TEST_MYSQL_URL")
        .expect("OUTBOX_TEST_MYSQL_URL names no MySQL or MariaDB server: run the tests with `cargo xtask test`")
}

pub(crate) async fn connect(url: &str) -> AsyncMysqlConnection {
    establish(url).await.unwrap_or_else(|error| panic!("no connection to the test server: {error}"))
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").expect("OUTBOX_TEST_MYSQL_URL has the form mysql://user@host:port");
    let server = rest.split_once('/').map_or(rest, |(server, _)| server);
    format!("{scheme}://{server}/{name}{query}")
}
