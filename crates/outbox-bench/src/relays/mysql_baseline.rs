use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Statement};
use outbox::Message;
use outbox::message::{Headers, Payload};
use outbox::ports::ShardId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::sender::Sender;
use super::{Drained, Stopwatch};
use crate::services::{MysqlDatabase, Topic};
use crate::workload::Workload;

/// Rows of one claim.
const CLAIM: i64 = 500;

const TABLE: &str = "baseline";

/// The relay that most outbox libraries have on MySQL: a batch is marked with a token, read by it, published concurrently, and deleted by it. It keeps no
/// order per key.
#[derive(Debug)]
pub struct MysqlBaseline {
    conn: Conn,
    claim: Statement,
    read: Statement,
    delete: Statement,
}

impl MysqlBaseline {
    /// Creates its table and appends a workload.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn create(database: &mut MysqlDatabase, workload: &Workload, topic: &Topic) -> Result<()> {
        let create = format!(
            "CREATE TABLE {TABLE} (id bigint AUTO_INCREMENT PRIMARY KEY, \
             event_id binary(16) NOT NULL DEFAULT (unhex(replace(uuid(), _latin1'-', _latin1''))), \
             aggregate_type varchar(255) NOT NULL, aggregate_id varchar(255), event_type varchar(255) NOT NULL, \
             payload longblob NOT NULL, content_type varchar(255) NOT NULL DEFAULT 'application/json', \
             headers json NOT NULL DEFAULT ('{{}}'), occurred_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)), \
             claim bigint, KEY (claim)) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"
        );
        database.client().query_drop(create).await.context("creating the baseline's table")?;
        database.fill(TABLE, &workload.mysql_insert(TABLE, topic.name())).await
    }

    /// Delivers everything.
    ///
    /// # Errors
    ///
    /// The server or Kafka fails, or the topic holds another number of records than were deleted.
    pub async fn drain(database: &MysqlDatabase, topic: &Topic) -> Result<Drained> {
        let mut watch = Stopwatch::start();
        let mut baseline = Self::connect(database).await?;
        let mut sender = Sender::connect(&topic.prompt_transport()?, topic).await?;
        let mut removed = 0;
        for token in 1_i64.. {
            let messages = baseline.claimed(token).await?;
            if messages.is_empty() {
                break;
            }
            sender.send(messages).await;
            sender.in_flight_at_most(0).await?;
            watch.confirmed(removed);
            baseline.conn.exec_drop(&baseline.delete, (token,)).await?;
            removed += baseline.conn.affected_rows();
        }
        let drained = watch.stop(removed);
        sender.close().await;
        baseline.conn.disconnect().await?;
        let records = topic.records().await?;
        ensure!(records == removed, "{removed} events were deleted and the topic has {records} records");
        Ok(drained)
    }

    async fn connect(database: &MysqlDatabase) -> Result<Self> {
        let mut conn = database.connect().await?;
        // A plain UPDATE with ORDER BY and LIMIT would sort everything that is pending, at every claim.
        let oldest = format!("SELECT id FROM {TABLE} WHERE claim IS NULL ORDER BY id LIMIT {CLAIM}");
        let claim = conn
            .prep(format!("UPDATE {TABLE} AS b JOIN ({oldest}) AS oldest ON b.id = oldest.id SET b.claim = ?"))
            .await?;
        let columns = "id, event_id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, \
                       timestampdiff(MICROSECOND, '1970-01-01', occurred_at)";
        let read = conn.prep(format!("SELECT {columns} FROM {TABLE} WHERE claim = ? ORDER BY id")).await?;
        let delete = conn.prep(format!("DELETE FROM {TABLE} WHERE claim = ?")).await?;
        Ok(Self { conn, claim, read, delete })
    }

    /// Claims a batch and reads it.
    async fn claimed(&mut self, token: i64) -> Result<Vec<Arc<Message>>> {
        self.conn.exec_drop(&self.claim, (token,)).await?;
        let rows: Vec<Row> = self.conn.exec(&self.read, (token,)).await?;
        rows.into_iter().map(message).collect()
    }
}

fn message(mut row: Row) -> Result<Arc<Message>> {
    let micros: i64 = take(&mut row, 8)?;
    Ok(Arc::new(Message {
        seq: take(&mut row, 0)?,
        id: Uuid::from_slice(&take::<Vec<u8>>(&mut row, 1)?)?,
        shard: ShardId(0),
        aggregate_type: take(&mut row, 2)?,
        aggregate_id: take(&mut row, 3)?,
        event_type: take(&mut row, 4)?,
        payload: Payload::from(take::<Vec<u8>>(&mut row, 5)?),
        content_type: take(&mut row, 6)?,
        headers: Headers::from_json(take::<String>(&mut row, 7)?),
        occurred_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)?,
        attempts: 0,
    }))
}

fn take<T: mysql_async::prelude::FromValue>(row: &mut Row, column: usize) -> Result<T> {
    row.take(column).with_context(|| format!("column {column} is missing"))
}
