use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};

use super::{on_runtime, program::succeed, service, unique};

/// A database of its own on the test server (MariaDB, or MySQL in a container), dropped at the end.
pub(crate) struct MysqlDatabase {
    server: String,
    name: String,
    /// Its URL.
    pub(crate) url: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl MysqlDatabase {
    /// An empty database.
    pub(crate) fn empty() -> Self {
        let server = service("OUTBOX_TEST_MYSQL_URL").trim_end_matches('/').to_owned();
        let name = unique("cli");
        execute(&server, &format!("CREATE DATABASE {name}"));
        let url = format!("{server}/{name}");
        Self { server, name, url }
    }

    /// A database with the outbox tables, made by the command.
    pub(crate) fn migrated() -> Self {
        let database = Self::empty();
        succeed(&mut super::program::outbox(&["migrate", "up", "--database", &database.url]));
        database
    }

    /// Runs statements, as somebody in another language would.
    pub(crate) fn execute(&self, sql: &str) {
        execute(&self.url, sql);
    }

    /// The rows of a table or of a join, with its conditions.
    pub(crate) fn count(&self, from: &str) -> i64 {
        on_runtime(async {
            let query = sql_query(format!("SELECT count(*) AS count FROM {from}"));
            query.get_result::<Count>(&mut connect(&self.url).await).await.expect("a count").count
        })
    }

    /// How many of its tables have names that begin like this.
    pub(crate) fn tables(&self, prefix: &str) -> i64 {
        let name = &self.name;
        self.count(&format!(
            "information_schema.tables WHERE table_schema = '{name}' AND left(table_name, {}) = '{prefix}'",
            prefix.len()
        ))
    }
}

impl Drop for MysqlDatabase {
    fn drop(&mut self) {
        execute(&self.server, &format!("DROP DATABASE IF EXISTS {}", self.name));
    }
}

fn execute(url: &str, sql: &str) {
    on_runtime(async {
        connect(url).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    });
}

async fn connect(url: &str) -> AsyncMysqlConnection {
    AsyncMysqlConnection::establish(url).await.expect("MariaDB answers")
}
