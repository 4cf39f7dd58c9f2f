//! A database of its own on the scratch MySQL or MariaDB.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_diesel::Tables;
use outbox_diesel::migrations::{Backend, EXPECTED_VERSION, mysql};
use uuid::Uuid;

/// Dropped with this value.
pub struct Database {
    /// Qualified, with a prefix that is not the default, and quoted for MySQL.
    pub tables: Tables,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl Database {
    /// A database that does not exist yet.
    pub fn unused() -> Self {
        let schema = format!("t_{}", Uuid::new_v4().simple());
        Self { tables: Tables::new(Some(&schema), "evt_").unwrap().for_backend(Backend::Mysql) }
    }

    pub async fn empty() -> Self {
        let database = Self::unused();
        connect().await.batch_execute(&format!("CREATE DATABASE {}", database.name())).await.unwrap();
        database
    }

    pub async fn migrated() -> Self {
        let database = Self::unused();
        mysql::up(&mut connect().await, &database.tables, EXPECTED_VERSION).await.unwrap();
        database
    }

    pub fn name(&self) -> &str {
        self.tables.schema().unwrap()
    }

    /// A number from a statement with the tokens of [`Tables::render`].
    pub async fn count(&self, sql: &str) -> i64 {
        count(&mut connect().await, &self.tables.render(sql)).await
    }

    /// Texts from a statement with such tokens, whose one column is named `line`.
    pub async fn lines(&self, sql: &str) -> Vec<String> {
        lines(&mut connect().await, &self.tables.render(sql)).await
    }

    pub async fn messages(&self) -> i64 {
        self.count("SELECT count(*) AS n FROM {{messages}}").await
    }

    /// The tables that are there, with their definitions.
    pub async fn definitions(&self) -> Vec<String> {
        let name = self.name();
        let sql = format!(
            "SELECT concat_ws(' ', c.table_name, ordinal_position, column_name, column_type, is_nullable, column_default, \
             extra, generation_expression, character_set_name, collation_name) AS line FROM information_schema.columns c \
             WHERE table_schema = '{name}' UNION ALL \
             SELECT concat_ws(' ', table_name, index_name, seq_in_index, column_name) FROM information_schema.statistics \
             WHERE table_schema = '{name}' UNION ALL \
             SELECT concat_ws(' ', constraint_name, check_clause) FROM information_schema.check_constraints \
             WHERE constraint_schema = '{name}' ORDER BY line"
        );
        lines(&mut connect().await, &sql).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {}", self.name());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect().await.batch_execute(&sql).await })
        });
        let result = dropped.join();
        if !std::thread::panicking() {
            result.expect("a connection").expect("the database can be dropped");
        }
    }
}

pub fn url() -> String {
    std::env::var("OUTBOX_TEST_MYSQL_URL").expect(
        "OUTBOX_TEST_MYSQL_URL is not set: run the tests with `cargo xtask test`, or start a MySQL or MariaDB and set it",
    )
}

pub async fn connect() -> AsyncMysqlConnection {
    connect_to(&url()).await
}

pub async fn connect_to(url: &str) -> AsyncMysqlConnection {
    AsyncMysqlConnection::establish(url)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to OUTBOX_TEST_MYSQL_URL: {error}"))
}

pub async fn count(conn: &mut AsyncMysqlConnection, sql: &str) -> i64 {
    diesel::sql_query(sql).get_result::<Count>(conn).await.unwrap_or_else(|error| panic!("{sql}: {error}")).n
}

pub async fn lines(conn: &mut AsyncMysqlConnection, sql: &str) -> Vec<String> {
    let rows: Vec<Line> = diesel::sql_query(sql).load(conn).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.into_iter().map(|row| row.line).collect()
}
