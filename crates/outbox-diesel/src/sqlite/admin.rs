use std::sync::Arc;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::ports::{Admin, DeadLetter, Position, ShardId, StorageError};
use time::OffsetDateTime;
use uuid::Uuid;

use super::sql::render;
use super::worker::Worker;
use crate::Tables;
use crate::sql::{Sql, bind};

/// Dead letters and parked keys.
pub(super) struct SqliteAdmin {
    worker: Worker,
    sql: Arc<Statements>,
}

struct Statements {
    list: String,
    revive: String,
    unpark_of: String,
    delete: String,
    park: String,
    unpark: String,
    bump: String,
}

impl SqliteAdmin {
    pub(super) fn new(worker: Worker, tables: &Tables) -> Self {
        let sql = |text| render(tables, text);
        let statements = Statements {
            list: sql("SELECT seq, id, CAST(aggregate_type AS BLOB), CAST(aggregate_id AS BLOB), \
                 CAST(event_type AS BLOB), reason, error, attempts, outcome_unknown, died_at FROM {{dead_letters}} \
                 WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
            revive: sql("INSERT INTO {{messages}} (seq, id, aggregate_type, aggregate_id, event_type, content_type, \
                 headers, occurred_at, available_at, payload) SELECT seq, id, aggregate_type, aggregate_id, event_type, \
                 content_type, headers, occurred_at, available_at, payload FROM {{dead_letters}} WHERE id = ?1"),
            // Unless another dead letter that still exists has parked the key: that one's followers wait for it.
            unpark_of: sql("DELETE FROM {{parked_keys}} WHERE (aggregate_type, aggregate_id) IN \
                 (SELECT aggregate_type, aggregate_id FROM {{dead_letters}} WHERE id = ?1) \
                 AND (dead_letter IS NULL OR dead_letter = ?1 OR dead_letter NOT IN (SELECT id FROM {{dead_letters}}))"),
            delete: sql("DELETE FROM {{dead_letters}} WHERE id = ?1"),
            park: sql(
                "INSERT INTO {{parked_keys}} (aggregate_type, aggregate_id, parked_at) VALUES (?1, ?2, {{now}}) \
                 ON CONFLICT DO NOTHING",
            ),
            unpark: sql("DELETE FROM {{parked_keys}} WHERE aggregate_type = ?1 AND aggregate_id = ?2"),
            bump: sql("UPDATE {{leases}} SET control_version = control_version + 1 WHERE shard = 0"),
        };
        Self { worker, sql: Arc::new(statements) }
    }

    /// Runs `change` in one write transaction and, when it changed something, tells the relay that owns the shard.
    async fn change(
        &self,
        action: &'static str,
        change: impl FnOnce(&mut SqliteConnection, &Statements) -> QueryResult<usize> + Send + 'static,
    ) -> Result<bool, StorageError> {
        let sql = self.sql.clone();
        let run = move |conn: &mut SqliteConnection| {
            let changed = change(conn, &sql)? > 0;
            if changed {
                Sql::<_>::new(&sql.bump, ()).execute(conn)?;
            }
            Ok(changed)
        };
        self.worker.write(action, run).await
    }
}

#[async_trait]
impl Admin for SqliteAdmin {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let sql = self.sql.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .worker
            .run("list the dead letters", move |conn| {
                Sql::<_, RowType>::new(&sql.list, (bind::<BigInt, _>(after_seq), bind::<BigInt, _>(limit)))
                    .load::<Row>(conn)
            })
            .await?;
        Ok(rows.into_iter().map(dead_letter).collect())
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        let id = id.to_string();
        self.change("replay a dead letter", move |conn, sql| {
            let id = || (bind::<Text, _>(id.as_str()),);
            Sql::<_>::new(&sql.revive, id()).execute(conn)?;
            Sql::<_>::new(&sql.unpark_of, id()).execute(conn)?;
            Sql::<_>::new(&sql.delete, id()).execute(conn)
        })
        .await
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        let id = id.to_string();
        self.change("discard a dead letter", move |conn, sql| {
            let id = || (bind::<Text, _>(id.as_str()),);
            Sql::<_>::new(&sql.unpark_of, id()).execute(conn)?;
            Sql::<_>::new(&sql.delete, id()).execute(conn)
        })
        .await
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (bind::<Text, _>(aggregate_type.to_owned()), bind::<Text, _>(aggregate_id.to_owned()));
        self.change("park a key", move |conn, sql| Sql::<_>::new(&sql.park, key).execute(conn)).await
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (bind::<Text, _>(aggregate_type.to_owned()), bind::<Text, _>(aggregate_id.to_owned()));
        self.change("unpark a key", move |conn, sql| Sql::<_>::new(&sql.unpark, key).execute(conn)).await
    }
}

type RowType = (BigInt, Text, Binary, Nullable<Binary>, Binary, Text, Text, BigInt, Bool, BigInt);
type Row = (i64, String, Vec<u8>, Option<Vec<u8>>, Vec<u8>, String, String, i64, bool, i64);

/// A dead letter may hold anything: what is no text is shown with replacement characters.
fn dead_letter(row: Row) -> DeadLetter {
    let (seq, id, aggregate_type, aggregate_id, event_type, reason, error, attempts, outcome_unknown, died_at) = row;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    DeadLetter {
        position: Position { shard: ShardId(0), seq, id: Uuid::parse_str(&id).unwrap_or_default() },
        aggregate_type: text(aggregate_type),
        aggregate_id: aggregate_id.map(text),
        event_type: text(event_type),
        reason,
        error,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        outcome_unknown,
        died_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(died_at) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
    }
}
