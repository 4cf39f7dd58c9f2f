use std::error::Error;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use outbox::Message;
use outbox::message::{Headers, Payload};
use outbox::ports::ShardId;
use time::OffsetDateTime;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::sender::Sender;
use super::{Drained, Stopwatch};
use crate::services::{Database, Outbox, Topic, fill};
use crate::workload::Workload;

/// Rows of one claim.
const CLAIM: i64 = 500;

/// The relay that most outbox libraries have: a table with a claim column, rows claimed with `SKIP LOCKED`, a batch published
/// concurrently, then deleted. It keeps no order per key.
#[derive(Debug, Clone)]
pub struct Baseline {
    schema: String,
}

impl Baseline {
    /// Creates its table in the schema of an outbox and appends a workload.
    ///
    /// # Errors
    ///
    /// The database refuses.
    pub async fn create(client: &Client, outbox: &Outbox, workload: &Workload, topic: &Topic) -> Result<Self> {
        let baseline = Self { schema: outbox.schema().to_owned() };
        let table = baseline.table();
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} (id bigserial PRIMARY KEY, event_id uuid NOT NULL DEFAULT gen_random_uuid(), \
                 aggregate_type text NOT NULL, aggregate_id text, event_type text NOT NULL, payload bytea NOT NULL, \
                 content_type text NOT NULL DEFAULT 'application/json', headers text NOT NULL DEFAULT '{{}}', \
                 occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(), claimed_at timestamptz); \
                 CREATE INDEX ON {table} (id) WHERE claimed_at IS NULL"
            ))
            .await
            .context("creating the baseline's table")?;
        fill(client, &table, &workload.insert(&table, topic.name())).await?;
        Ok(baseline)
    }

    /// Its table.
    pub fn table(&self) -> String {
        format!("\"{}\".baseline", self.schema)
    }

    /// Delivers everything.
    ///
    /// # Errors
    ///
    /// The database or Kafka fails, or the topic holds another number of records than were deleted.
    pub async fn drain(&self, database: &Database, topic: &Topic) -> Result<Drained> {
        let mut watch = Stopwatch::start();
        let client = database.connect().await?;
        let table = self.table();
        let claim = client
            .prepare(&format!(
                "UPDATE {table} SET claimed_at = clock_timestamp() WHERE id IN (SELECT id FROM {table} \
                 WHERE claimed_at IS NULL ORDER BY id LIMIT {CLAIM} FOR UPDATE SKIP LOCKED) \
                 RETURNING id, event_id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, occurred_at"
            ))
            .await?;
        let delete = client.prepare(&format!("DELETE FROM {table} WHERE id = ANY($1)")).await?;
        let mut sender = Sender::connect(&topic.prompt_transport()?, topic).await?;
        let mut removed = 0;
        loop {
            let (ids, messages) = claimed(&client, &claim).await?;
            if ids.is_empty() {
                break;
            }
            sender.send(messages).await;
            sender.in_flight_at_most(0).await?;
            watch.confirmed(removed);
            removed += client.execute(&delete, &[&ids]).await?;
        }
        let drained = watch.stop(removed);
        sender.close().await;
        let records = topic.records().await?;
        ensure!(records == removed, "{removed} events were deleted and the topic has {records} records");
        Ok(drained)
    }
}

/// Claims a batch.
async fn claimed(client: &Client, claim: &Statement) -> Result<(Vec<i64>, Vec<Arc<Message>>)> {
    let rows = client.query(claim, &[]).await?;
    let ids = rows.iter().map(|row| row.get(0)).collect();
    let messages = rows.iter().map(message).collect::<Result<_>>()?;
    Ok((ids, messages))
}

fn message(row: &Row) -> Result<Arc<Message>> {
    Ok(Arc::new(Message {
        seq: row.get(0),
        id: row.get::<_, RawUuid>(1).0,
        shard: ShardId(0),
        aggregate_type: row.get(2),
        aggregate_id: row.get(3),
        event_type: row.get(4),
        payload: Payload::from(row.get::<_, Vec<u8>>(5)),
        content_type: row.get(6),
        headers: Headers::from_json(row.get::<_, String>(7)),
        occurred_at: row.get::<_, RawTime>(8).time()?,
        attempts: 0,
    }))
}

struct RawUuid(Uuid);

impl<'a> FromSql<'a> for RawUuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Uuid::from_slice(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// Microseconds since 2000-01-01.
struct RawTime(i64);

impl RawTime {
    fn time(&self) -> Result<OffsetDateTime> {
        const EPOCH: i128 = 946_684_800_000_000;
        Ok(OffsetDateTime::from_unix_timestamp_nanos((EPOCH + i128::from(self.0)) * 1_000)?)
    }
}

impl<'a> FromSql<'a> for RawTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
