use std::collections::HashMap;

use anyhow::Result;
use async_trait::async_trait;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{NewMessage, PostgresOutbox, migrations};
use uuid::Uuid;

use super::{Business, LeaseRow, Tables};
use crate::verify::Committed;

const BUSINESS: &str = "
    CREATE TABLE counters (key text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE record (id uuid PRIMARY KEY, key text NOT NULL, n bigint NOT NULL, UNIQUE (key, n));";

/// A connection to PostgreSQL.
pub(super) struct Postgres {
    conn: AsyncPgConnection,
    outbox: PostgresOutbox,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

pub(super) async fn connect(url: &str) -> Result<Postgres> {
    Ok(Postgres { conn: AsyncPgConnection::establish(url).await?, outbox: PostgresOutbox::default() })
}

#[async_trait]
impl Business for Postgres {
    async fn begin(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("BEGIN").await?)
    }

    async fn count_up(&mut self, key: &str, by: i64) -> Result<i64> {
        let counter: Number = sql_query("UPDATE counters SET n = n + $1 WHERE key = $2 RETURNING n")
            .bind::<BigInt, _>(by)
            .bind::<Text, _>(key)
            .get_result(&mut self.conn)
            .await?;
        Ok(counter.n)
    }

    async fn append(&mut self, messages: &[NewMessage]) -> Result<Vec<Uuid>> {
        Ok(self.outbox.append_all(&mut self.conn, messages).await?)
    }

    async fn record(&mut self, key: &str, events: &[(Uuid, i64)]) -> Result<()> {
        let (ids, numbers): (Vec<Uuid>, Vec<i64>) = events.iter().copied().unzip();
        sql_query("INSERT INTO record SELECT id, $2, n FROM unnest($1, $3) AS event (id, n)")
            .bind::<Array<SqlUuid>, _>(ids)
            .bind::<Text, _>(key)
            .bind::<Array<BigInt>, _>(numbers)
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("COMMIT").await?)
    }

    async fn roll_back(&mut self) -> Result<()> {
        Ok(self.conn.batch_execute("ROLLBACK").await?)
    }
}

#[async_trait]
impl Tables for Postgres {
    async fn create(&mut self, keys: &[String]) -> Result<()> {
        migrations::postgres::up(&mut self.conn, &outbox::Tables::default(), migrations::EXPECTED_VERSION).await?;
        self.conn.batch_execute(BUSINESS).await?;
        sql_query("INSERT INTO counters SELECT key, 0 FROM unnest($1) AS key")
            .bind::<Array<Text>, _>(keys)
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }

    async fn shards(&mut self) -> Result<HashMap<String, i16>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            key: String,
            #[diesel(sql_type = SmallInt)]
            shard: i16,
        }
        let rows: Vec<Row> =
            sql_query("SELECT aggregate_id::text AS key, shard FROM outbox_messages").load(&mut self.conn).await?;
        Ok(rows.into_iter().map(|row| (row.key, row.shard)).collect())
    }

    async fn newest(&mut self) -> Result<i64> {
        let newest = "SELECT coalesce(max(seq), 0) AS n FROM outbox_messages";
        Ok(sql_query(newest).get_result::<Number>(&mut self.conn).await?.n)
    }

    async fn pending_up_to(&mut self, seq: i64) -> Result<u64> {
        let rows = sql_query("SELECT count(*) AS n FROM outbox_messages WHERE seq <= $1").bind::<BigInt, _>(seq);
        Ok(u64::try_from(rows.get_result::<Number>(&mut self.conn).await?.n)?)
    }

    async fn pending(&mut self, aggregate_type: &str, event_type: &str) -> Result<u64> {
        let rows = "SELECT count(*) AS n FROM outbox_messages WHERE aggregate_type = $1 AND event_type = $2";
        let left: Number = sql_query(rows)
            .bind::<Text, _>(aggregate_type)
            .bind::<Text, _>(event_type)
            .get_result(&mut self.conn)
            .await?;
        Ok(u64::try_from(left.n)?)
    }

    async fn attempted(&mut self) -> Result<u64> {
        let rows = "SELECT count(*) AS n FROM outbox_messages WHERE attempts > 0";
        Ok(u64::try_from(sql_query(rows).get_result::<Number>(&mut self.conn).await?.n)?)
    }

    async fn dead_letters(&mut self) -> Result<Vec<Uuid>> {
        let rows: Vec<Id> = sql_query("SELECT id FROM outbox_dead_letters").load(&mut self.conn).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    async fn leases(&mut self) -> Result<Vec<LeaseRow>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SmallInt)]
            shard: i16,
            #[diesel(sql_type = Nullable<SqlUuid>)]
            owner: Option<Uuid>,
            #[diesel(sql_type = Nullable<Text>)]
            name: Option<String>,
        }
        let leases = "SELECT l.shard, l.owner, r.name FROM outbox_leases l LEFT JOIN outbox_relays r USING (owner)";
        let rows: Vec<Row> = sql_query(leases).load(&mut self.conn).await?;
        Ok(rows.into_iter().map(|row| LeaseRow { shard: row.shard, owner: row.owner, name: row.name }).collect())
    }

    async fn committed(&mut self) -> Result<Vec<Committed>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
            #[diesel(sql_type = Text)]
            key: String,
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let rows: Vec<Row> = sql_query("SELECT id, key, n FROM record").load(&mut self.conn).await?;
        Ok(rows.into_iter().map(|row| Committed { id: row.id, key: row.key, n: row.n }).collect())
    }
}
