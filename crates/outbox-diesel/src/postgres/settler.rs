//! What becomes of messages: delivered, failed, dead.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Untyped, Uuid as SqlUuid};
use outbox_core::ports::{
    Backlog, Burial, FailureMark, Fenced, Lease, ParkedKey, Position, Settler, ShardId, StorageError,
};
use uuid::Uuid;

use super::backlog::BacklogRow;
use super::parked::{PARKED_KEYS, ParkedRow};
use super::pool::Pool;
use super::reader::shard_column;
use super::shared::Shared;
use crate::Tables;
use crate::sql::{Sql, bind};

/// Rows of one DELETE: what the server locks and logs at once stays small, and a lost reply costs no more than this.
const SETTLE_ROWS: usize = 5_000;

/// Characters of an error text that are kept.
const ERROR_CHARS: usize = 2_000;

/// The longest wait that a mark can hold: longer ones would not fit a timestamp after many clock additions.
const MAX_DELAY_MICROS: i64 = 100 * 365 * 24 * 3600 * 1_000_000;

/// Settles over one pool; estimates over another, so that a slow count delays no delivery.
pub(super) struct PostgresSettler {
    settles: Pool,
    control: Pool,
    shared: Arc<Shared>,
    settle: String,
    retry_later: String,
    bury: String,
    parked_keys: String,
    backlog: String,
}

impl PostgresSettler {
    pub(super) fn new(settles: Pool, control: Pool, shared: Arc<Shared>, tables: &Tables) -> Self {
        Self {
            settles,
            control,
            shared,
            settle: tables.render(SETTLE),
            retry_later: tables.render(RETRY_LATER),
            bury: tables.render(BURY),
            parked_keys: tables.render(PARKED_KEYS),
            backlog: tables.render(super::backlog::BACKLOG),
        }
    }
}

/// The statement takes a transaction id after every `seq` up to the last value known was taken: the next horizon.
const SETTLE: &str = "WITH gone AS (DELETE FROM {{messages}} AS m USING unnest($1::int2[], $2::int8[], $3::uuid[]) \
    AS d(shard, seq, id) WHERE m.shard = d.shard AND m.seq = d.seq AND m.id = d.id) \
    SELECT pg_current_xact_id()::text::int8";

const RETRY_LATER: &str = "WITH lease AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l \
    WHERE l.shard = $1 AND l.owner = $2 AND l.epoch = $3 FOR SHARE), \
    marked AS (UPDATE {{messages}} AS m SET attempts = $6, last_error = $8, \
    retry_at = clock_timestamp() + $7 * interval '1 microsecond' \
    FROM lease WHERE m.shard = lease.shard AND m.seq = $4 AND m.id = $5 RETURNING m.retry_at) \
    SELECT (SELECT count(*) FROM lease), (SELECT (extract(epoch FROM retry_at - timestamptz '2000-01-01 00:00:00+00') \
    * 1000000)::int8 FROM marked)";

const BURY: &str = "WITH lease AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l \
    WHERE l.shard = $1 AND l.owner = $2 AND l.epoch = $3 FOR SHARE), \
    gone AS (DELETE FROM {{messages}} AS m USING lease WHERE m.shard = lease.shard AND m.seq = $4 AND m.id = $5 \
    RETURNING m.*), \
    dead AS (INSERT INTO {{dead_letters}} (shard, seq, id, aggregate_type, aggregate_id, event_type, payload, \
    content_type, headers, occurred_at, available_at, attempts, reason, error, outcome_unknown, died_at) \
    SELECT shard, seq, id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, occurred_at, \
    available_at, $6, $7, $8, $9, clock_timestamp() FROM gone), \
    parked AS (INSERT INTO {{parked_keys}} (shard, aggregate_type, aggregate_id, parked_at, dead_letter_id) \
    SELECT shard, aggregate_type, aggregate_id, clock_timestamp(), id FROM gone \
    WHERE $10 AND aggregate_id IS NOT NULL ON CONFLICT DO NOTHING) \
    SELECT count(*) FROM lease";

#[async_trait]
impl Settler for PostgresSettler {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        // Two owners of a shard, one of them late, must lock the same rows in the same order.
        let mut positions = delivered.to_vec();
        positions.sort_unstable();
        for part in positions.chunks(SETTLE_ROWS) {
            let last_value = self.shared.last_value();
            let binds = (
                bind::<Array<SmallInt>, _>(part.iter().map(|one| shard_column(one.shard)).collect::<Vec<_>>()),
                bind::<Array<BigInt>, _>(part.iter().map(|one| one.seq).collect::<Vec<_>>()),
                bind::<Array<SqlUuid>, _>(part.iter().map(|one| one.id).collect::<Vec<_>>()),
            );
            let next_xid: i64 =
                self.settles.one("settle delivered messages", Sql::<_, BigInt>::new(&self.settle, binds)).await?;
            self.shared.advance(last_value, next_xid);
        }
        Ok(())
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        let delay = i64::try_from(mark.delay.as_micros()).unwrap_or(i64::MAX).min(MAX_DELAY_MICROS);
        let binds = (
            bind::<SmallInt, _>(shard_column(mark.position.shard)),
            bind::<SqlUuid, _>(owner),
            bind::<BigInt, _>(lease.epoch),
            bind::<BigInt, _>(mark.position.seq),
            bind::<SqlUuid, _>(mark.position.id),
            bind::<Integer, _>(attempts_column(mark.attempts)),
            bind::<BigInt, _>(delay),
            bind::<Text, _>(error_column(&mark.error)),
        );
        let statement = Sql::<_, (BigInt, Nullable<BigInt>)>::new(&self.retry_later, binds);
        let (leases, wake_at): (i64, Option<i64>) = self.settles.one("mark a failed attempt", statement).await?;
        if let Some(wake_at) = wake_at {
            self.shared.will_wake((mark.position.shard, wake_at, mark.position.seq));
        }
        Ok(fenced(leases))
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        let binds = (
            bind::<SmallInt, _>(shard_column(burial.position.shard)),
            bind::<SqlUuid, _>(owner),
            bind::<BigInt, _>(lease.epoch),
            bind::<BigInt, _>(burial.position.seq),
            bind::<SqlUuid, _>(burial.position.id),
            bind::<Integer, _>(attempts_column(burial.attempts)),
            bind::<Text, _>(burial.reason.as_str()),
            bind::<Text, _>(error_column(&burial.error)),
            bind::<Bool, _>(burial.outcome_unknown),
            bind::<Bool, _>(burial.park_key),
        );
        let statement = Sql::<_, BigInt>::new(&self.bury, binds);
        let leases: i64 = self.settles.one("move a message to the dead letters", statement).await?;
        if burial.park_key {
            self.shared.key_was_parked();
        }
        Ok(fenced(leases))
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        let shards: Vec<_> = shards.iter().map(|&shard| shard_column(shard)).collect();
        let statement = Sql::<_, Untyped>::new(&self.parked_keys, (bind::<Array<SmallInt>, _>(shards),));
        let rows: Vec<ParkedRow> = self.control.load("read the parked keys", statement).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        let row: BacklogRow =
            self.control.one("measure the backlog", Sql::<_, Untyped>::new(&self.backlog, ())).await?;
        Ok(row.0)
    }
}

fn fenced(leases: i64) -> Fenced {
    if leases > 0 { Fenced::Done } else { Fenced::Lost }
}

fn attempts_column(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}

/// Error texts come from brokers: NUL, which no text column can store, is replaced.
fn error_column(error: &str) -> String {
    error.chars().take(ERROR_CHARS).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
