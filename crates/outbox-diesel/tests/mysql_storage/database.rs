//! A database of its own for each test.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::ports::{ReadLimits, Reader, ShardId, Storage};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{Backend, EXPECTED_VERSION, mysql};
use outbox_diesel::mysql::{MysqlStorage, MysqlStorageBuilder, establish};
use uuid::Uuid;

pub(crate) const LIMITS: ReadLimits = ReadLimits { rows: 2_000, bytes: 8 << 20, max_message_bytes: 16 << 20 };

/// A migrated database, dropped with this value.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) tables: Tables,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::with_prefix("outbox_").await
    }

    pub(crate) async fn with_prefix(prefix: &str) -> Self {
        let name = format!("outbox_test_{}", Uuid::new_v4().simple());
        let tables = Tables::new(None, prefix).expect("a plain prefix").for_backend(Backend::Mysql);
        let mut server = connect(&server_url()).await;
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a superuser can create a database");
        let database = Self { name, tables };
        mysql::up(&mut database.connection().await, &database.tables, EXPECTED_VERSION).await.expect("migrates");
        database
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

    pub(crate) async fn execute(&self, sql: &str) {
        self.connection().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        number(&mut self.connection().await, sql).await
    }

    pub(crate) fn builder(&self) -> MysqlStorageBuilder {
        MysqlStorage::builder(self.url()).tables(self.tables.clone())
    }

    pub(crate) fn storage(&self) -> Arc<MysqlStorage> {
        Arc::new(self.builder().build().expect("the URL of the test server is right"))
    }

    /// Appends messages of `keys` keys the way that another language does.
    pub(crate) async fn insert(&self, messages: usize, keys: usize) {
        let row = |n| format!("('order', '{}', 'placed', repeat('x', 300))", n % keys);
        self.insert_rows("aggregate_type, aggregate_id, event_type, payload", (1..=messages).map(row)).await;
    }

    /// Appends rows in statements of 500.
    pub(crate) async fn insert_rows(&self, columns: &str, rows: impl Iterator<Item = String>) {
        let mut connection = self.connection().await;
        let rows: Vec<_> = rows.collect();
        for part in rows.chunks(500) {
            let sql = format!("INSERT INTO outbox_messages ({columns}) VALUES {}", part.join(", "));
            connection.batch_execute(&sql).await.unwrap_or_else(|error| panic!("cannot insert: {error}"));
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
            // One that has ended by itself meanwhile is as good.
            let _ = connection.batch_execute(&format!("KILL {id}")).await;
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
                server.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await
            })
        });
        let dropped = dropped.join();
        if !std::thread::panicking() {
            dropped.expect("the server is there").expect("the database can be dropped");
        }
    }
}

pub(crate) fn server_url() -> String {
    std::env::var("OUTBOX_TEST_MYSQL_URL")
        .expect("OUTBOX_TEST_MYSQL_URL names no MySQL or MariaDB server: run the tests with `cargo xtask test`")
}

pub(crate) async fn connect(url: &str) -> AsyncMysqlConnection {
    establish(url).await.unwrap_or_else(|error| panic!("no connection to the test server: {error}"))
}

pub(crate) async fn number(connection: &mut AsyncMysqlConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let row: Row = diesel::sql_query(format!("SELECT CAST(({sql}) AS signed) AS number"))
        .get_result(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    row.number
}

/// A reader of all shards.
pub(crate) async fn reader(storage: &MysqlStorage) -> Box<dyn Reader> {
    let mut reader = storage.reader().await.expect("a reader");
    reader.assign(&(0..64).map(ShardId).collect::<Vec<_>>());
    reader
}

pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").expect("OUTBOX_TEST_MYSQL_URL has the form mysql://user@host:port");
    let server = rest.split_once('/').map_or(rest, |(server, _)| server);
    format!("{scheme}://{server}/{name}{query}")
}
