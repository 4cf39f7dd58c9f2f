use anyhow::{Context, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

/// What MySQL or MariaDB has counted for one account up to a moment. A statement counts when it has ended.
#[derive(Debug, Clone, Copy)]
pub struct MysqlCounters {
    rows_read: i64,
    statements: i64,
}

impl MysqlCounters {
    /// Makes the server count by account: MariaDB does so only when asked.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn switch_on(client: &mut Conn) -> Result<()> {
        if is_mariadb(client).await? {
            client.query_drop("SET GLOBAL userstat = 1").await.context("counting by account")?;
        }
        Ok(())
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not count.
    pub async fn read(client: &mut Conn, account: &str) -> Result<Self> {
        // MySQL's count has rows of temporary tables in it, MariaDB's has not
        let sql = if is_mariadb(client).await? {
            "SELECT CAST(coalesce(sum(rows_read), 0) AS signed), \
             CAST(coalesce(sum(select_commands + update_commands + other_commands), 0) AS signed) \
             FROM information_schema.user_statistics WHERE user = ?"
        } else {
            "SELECT CAST(coalesce(sum(sum_rows_examined), 0) AS signed), CAST(coalesce(sum(count_star), 0) AS signed) \
             FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE user = ?"
        };
        let (rows_read, statements) =
            client.exec_first(sql, (account,)).await?.context("the server counts nothing by account")?;
        Ok(Self { rows_read, statements })
    }

    /// Rows looked at since `before`.
    pub fn rows_examined_since(&self, before: &Self) -> i64 {
        self.rows_read - before.rows_read
    }

    /// Statements since `before`.
    pub fn statements_since(&self, before: &Self) -> i64 {
        self.statements - before.statements
    }
}

async fn is_mariadb(client: &mut Conn) -> Result<bool> {
    let version: String = client.query_first("SELECT version()").await?.context("the server has no version")?;
    Ok(version.contains("MariaDB"))
}
