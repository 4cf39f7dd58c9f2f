use std::collections::BTreeSet;

use anyhow::Result;
use async_trait::async_trait;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Text},
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use outbox::inbox::{InboxTables, migrations};

use super::Tables;
use crate::inbox::stream::Message;

/// The server looks for a deadlock only after a second otherwise.
const SETTINGS: &str =
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = %L', current_database(), '20ms'); END $$";

const BUSINESS: &str = "
    CREATE TABLE expected (id text PRIMARY KEY, name text NOT NULL, n bigint NOT NULL, UNIQUE (name, n));
    CREATE TABLE applied (id text PRIMARY KEY, times bigint NOT NULL);
    CREATE TABLE key_counters (name text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE effects (name text NOT NULL, place bigint NOT NULL, id text NOT NULL, n bigint NOT NULL);
    CREATE TABLE shared_counters (name text PRIMARY KEY, n bigint NOT NULL);
    INSERT INTO shared_counters VALUES ('a', 0), ('b', 0);";

/// A connection to PostgreSQL.
pub(super) struct Postgres {
    conn: AsyncPgConnection,
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

pub(super) async fn connect(url: &str) -> Result<Postgres> {
    Ok(Postgres { conn: AsyncPgConnection::establish(url).await? })
}

#[async_trait]
impl Tables for Postgres {
    async fn create(&mut self, messages: &[Message]) -> Result<()> {
        let (tables, version) = (InboxTables::default(), migrations::EXPECTED_INBOX_VERSION);
        migrations::postgres::up(&mut self.conn, &tables, version).await?;
        self.conn.batch_execute(SETTINGS).await?;
        self.conn.batch_execute(BUSINESS).await?;
        let keys: BTreeSet<&str> = messages.iter().map(|message| &*message.body.key).collect();
        sql_query("INSERT INTO key_counters SELECT key, 0 FROM unnest($1) AS key")
            .bind::<Array<Text>, _>(keys.into_iter().collect::<Vec<_>>())
            .execute(&mut self.conn)
            .await?;
        sql_query("INSERT INTO expected SELECT * FROM unnest($1, $2, $3)")
            .bind::<Array<Text>, _>(messages.iter().map(|message| &*message.id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(messages.iter().map(|message| &*message.body.key).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(messages.iter().map(|message| message.body.n).collect::<Vec<_>>())
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }

    async fn number(&mut self, sql: &str) -> Result<i64> {
        Ok(sql_query(sql).get_result::<Number>(&mut self.conn).await?.n)
    }

    async fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let lines: Vec<Line> = sql_query(sql).load(&mut self.conn).await?;
        Ok(lines.into_iter().map(|line| line.what).collect())
    }

    async fn deadlocks(&mut self) -> Result<i64> {
        self.number("SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()").await
    }
}
