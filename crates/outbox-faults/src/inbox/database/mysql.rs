use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::Result;
use async_trait::async_trait;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use outbox::inbox::{InboxTables, migrations};

use super::Tables;
use crate::inbox::stream::Message;

/// Texts are bytes, as the inbox's own.
const BUSINESS: [&str; 6] = [
    "CREATE TABLE expected (id varbinary(64) PRIMARY KEY, name varbinary(64) NOT NULL, n bigint NOT NULL, UNIQUE (name, n)) \
     ENGINE=InnoDB",
    "CREATE TABLE applied (id varbinary(64) PRIMARY KEY, times bigint NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE key_counters (name varbinary(64) PRIMARY KEY, n bigint NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE effects (number bigint AUTO_INCREMENT PRIMARY KEY, name varbinary(64) NOT NULL, place bigint NOT NULL, \
     id varbinary(64) NOT NULL, n bigint NOT NULL, KEY (id)) ENGINE=InnoDB",
    "CREATE TABLE shared_counters (name varbinary(64) PRIMARY KEY, n bigint NOT NULL) ENGINE=InnoDB",
    "INSERT INTO shared_counters VALUES ('a', 0), ('b', 0)",
];
/// Rows of one INSERT.
const ROWS: usize = 1_000;

/// A connection to MySQL or MariaDB.
pub(super) struct Mysql {
    conn: AsyncMysqlConnection,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    what: String,
}

pub(super) async fn connect(url: &str) -> Result<Mysql> {
    Ok(Mysql { conn: AsyncMysqlConnection::establish(url).await? })
}

#[async_trait]
impl Tables for Mysql {
    async fn create(&mut self, messages: &[Message]) -> Result<()> {
        let (tables, version) = (InboxTables::default(), migrations::EXPECTED_INBOX_VERSION);
        migrations::mysql::up(&mut self.conn, &tables, version).await?;
        for statement in BUSINESS {
            self.conn.batch_execute(statement).await?;
        }
        // names of the run's own, which need no quoting
        let keys: BTreeSet<&str> = messages.iter().map(|message| &*message.body.key).collect();
        for key in keys {
            self.conn.batch_execute(&format!("INSERT INTO key_counters VALUES ('{key}', 0)")).await?;
        }
        for chunk in messages.chunks(ROWS) {
            let mut rows = String::new();
            for Message { id, body } in chunk {
                let separator = if rows.is_empty() { "" } else { ", " };
                write!(rows, "{separator}('{id}', '{}', {})", body.key, body.n)?;
            }
            self.conn.batch_execute(&format!("INSERT INTO expected VALUES {rows}")).await?;
        }
        Ok(())
    }

    async fn number(&mut self, sql: &str) -> Result<i64> {
        Ok(sql_query(sql).get_result::<Number>(&mut self.conn).await?.n)
    }

    async fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let as_text = format!("SELECT convert(found.what USING utf8mb4) AS what FROM ({sql}) AS found");
        let lines: Vec<Line> = sql_query(as_text).load(&mut self.conn).await?;
        Ok(lines.into_iter().map(|line| line.what).collect())
    }

    async fn deadlocks(&mut self) -> Result<i64> {
        // MySQL calls the same counter lock_deadlocks and has it switched off by default
        self.number(
            "SELECT CAST(variable_value AS SIGNED) AS n FROM information_schema.global_status \
             WHERE variable_name = 'INNODB_DEADLOCKS'",
        )
        .await
    }
}
