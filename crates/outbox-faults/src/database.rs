use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{Tables, migrations};
use uuid::Uuid;

use crate::verify::Committed;

/// Aggregate type of all events, and so their topic.
pub(crate) const AGGREGATE_TYPE: &str = "fault-run";
/// Event type of the events of a burst.
pub(crate) const BURST: &str = "fault-run.burst";
/// Ordering keys.
pub(crate) const KEYS: usize = 200;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The business: a counter per key whose row lock makes the writers of a key follow each other, and a record of every event, written in
/// the event's own transaction.
const BUSINESS: &str = "
    CREATE TABLE counters (key text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE record (id uuid PRIMARY KEY, key text NOT NULL, n bigint NOT NULL, UNIQUE (key, n));";

/// What is still in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub(crate) struct Remaining {
    #[diesel(sql_type = BigInt)]
    pub(crate) pending: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) dead_letters: i64,
}

/// Name of the key with this index.
pub(crate) fn key(index: usize) -> String {
    format!("key-{index}")
}

/// Connects without any code of the product.
pub(crate) async fn connect(url: &str) -> Result<AsyncPgConnection> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, AsyncPgConnection::establish(url));
    Ok(connecting.await.context("PostgreSQL does not answer")??)
}

/// Makes the outbox and the business tables.
pub(crate) async fn create(url: &str) -> Result<()> {
    let mut conn = connect(url).await?;
    migrations::postgres::up(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION).await?;
    conn.batch_execute(BUSINESS).await?;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    sql_query("INSERT INTO counters SELECT key, 0 FROM unnest($1) AS key")
        .bind::<diesel::sql_types::Array<Text>, _>(keys)
        .execute(&mut conn)
        .await?;
    Ok(())
}

/// The shard of every key, as the database computes it: from rows that are never committed.
pub(crate) async fn shards(url: &str) -> Result<HashMap<String, i16>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = SmallInt)]
        shard: i16,
    }
    let mut conn = connect(url).await?;
    conn.batch_execute("BEGIN").await?;
    let rows: Vec<Row> = sql_query(
        "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
         SELECT $1, key, 'probe', '' FROM counters RETURNING aggregate_id::text AS key, shard",
    )
    .bind::<Text, _>(AGGREGATE_TYPE)
    .load(&mut conn)
    .await?;
    conn.batch_execute("ROLLBACK").await?;
    Ok(rows.into_iter().map(|row| (row.key, row.shard)).collect())
}

/// What the outbox still holds.
pub(crate) async fn remaining(url: &str) -> Result<Remaining> {
    let counts = "SELECT (SELECT count(*) FROM outbox_messages) AS pending, \
                  (SELECT count(*) FROM outbox_dead_letters) AS dead_letters";
    Ok(sql_query(counts).get_result(&mut connect(url).await?).await?)
}

/// Events of bursts that are not settled yet.
pub(crate) async fn burst_left(conn: &mut AsyncPgConnection) -> Result<u64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        left: i64,
    }
    let left = sql_query("SELECT count(*) AS left FROM outbox_messages WHERE event_type = $1").bind::<Text, _>(BURST);
    Ok(u64::try_from(left.get_result::<Row>(conn).await?.left)?)
}

/// Every event that was committed, by the business record.
pub(crate) async fn committed(url: &str) -> Result<Vec<Committed>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let rows: Vec<Row> = sql_query("SELECT id, key, n FROM record").load(&mut connect(url).await?).await?;
    Ok(rows.into_iter().map(|row| Committed { id: row.id, key: row.key, n: row.n }).collect())
}
