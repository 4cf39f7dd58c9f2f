//! Dead letters and parked keys, for operators.

use async_trait::async_trait;
use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Text, Untyped, Uuid as SqlUuid};
use outbox_core::ports::{Admin, DeadLetter, Position, ShardId, StorageError};
use time::OffsetDateTime;
use uuid::Uuid;

use super::pool::Pool;
use super::row::{PgRow, big, flag, int, lossy_text, small, time_of, uuid};
use crate::Tables;
use crate::sql::{Sql, bind};

/// The shard of a key, as the messages table computes it.
pub(super) const SHARD_OF_KEY: &str =
    "(hashtextextended(($1::text || chr(31) || $2::text) COLLATE \"C\", 0) & 63)::int2";

/// Administration over a pool of its own. Every change is one statement: it happens as a whole or not at all.
pub(super) struct PostgresAdmin {
    pool: Pool,
    dead_letters: String,
    replay: String,
    discard: String,
    park: String,
    unpark: String,
}

impl PostgresAdmin {
    pub(super) fn new(pool: Pool, tables: &Tables) -> Self {
        let render = |sql: &str| tables.render(&sql.replace("{SHARD}", SHARD_OF_KEY));
        Self {
            pool,
            dead_letters: render(DEAD_LETTERS),
            replay: render(&format!("{REMOVED_DEAD_LETTER}, {PENDING_AGAIN} SELECT count(*) FROM dead")),
            discard: render(&format!("{REMOVED_DEAD_LETTER} SELECT count(*) FROM dead")),
            park: render(PARK),
            unpark: render(UNPARK),
        }
    }
}

/// Whether a statement that counts its changes changed anything.
fn changed(rows: i64) -> bool {
    rows > 0
}

const DEAD_LETTERS: &str = "SELECT shard, seq, id, aggregate_type, aggregate_id, event_type, reason, error, attempts, \
    outcome_unknown, died_at FROM {{dead_letters}} WHERE seq > $1 ORDER BY seq, id LIMIT $2";

/// Unparks the key unless another dead letter that still exists has parked it: that one's followers wait for it.
/// The lease row is locked before the key's row, in the order in which the relay does.
const REMOVED_DEAD_LETTER: &str = "WITH found AS MATERIALIZED (SELECT d.* FROM {{dead_letters}} AS d WHERE d.id = $1 FOR UPDATE), \
    bumped AS (UPDATE {{leases}} AS l SET control_version = l.control_version + 1 FROM found WHERE l.shard = found.shard \
    RETURNING l.shard), \
    unparked AS (DELETE FROM {{parked_keys}} AS p USING found, bumped WHERE bumped.shard = found.shard \
    AND p.shard = found.shard AND p.aggregate_type = found.aggregate_type AND p.aggregate_id = found.aggregate_id \
    AND (p.dead_letter_id IS NULL OR p.dead_letter_id = found.id \
    OR NOT EXISTS (SELECT FROM {{dead_letters}} AS other WHERE other.id = p.dead_letter_id))), \
    dead AS (DELETE FROM {{dead_letters}} AS d USING found WHERE d.seq = found.seq AND d.id = found.id RETURNING d.*)";

const PENDING_AGAIN: &str = "again AS (INSERT INTO {{messages}} (seq, id, aggregate_type, aggregate_id, event_type, payload, \
    content_type, headers, occurred_at, available_at) SELECT seq, id, aggregate_type, aggregate_id, event_type, payload, \
    content_type, headers, occurred_at, available_at FROM dead)";

const PARK: &str = "WITH bumped AS (UPDATE {{leases}} AS l SET control_version = l.control_version + 1 \
    WHERE l.shard = {SHARD} RETURNING l.shard), \
    parked AS (INSERT INTO {{parked_keys}} (shard, aggregate_type, aggregate_id, parked_at) \
    SELECT bumped.shard, $1, $2, clock_timestamp() FROM bumped ON CONFLICT DO NOTHING RETURNING 1) \
    SELECT count(*) FROM parked";

const UNPARK: &str = "WITH bumped AS (UPDATE {{leases}} AS l SET control_version = l.control_version + 1 \
    WHERE l.shard = {SHARD} RETURNING l.shard), \
    unparked AS (DELETE FROM {{parked_keys}} AS p USING bumped WHERE p.shard = bumped.shard \
    AND p.aggregate_type = $1 AND p.aggregate_id = $2 RETURNING 1) SELECT count(*) FROM unparked";

#[async_trait]
impl Admin for PostgresAdmin {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let binds = (bind::<BigInt, _>(after_seq), bind::<BigInt, _>(limit));
        let rows: Vec<DeadLetterRow> =
            self.pool.load("list dead letters", Sql::<_, Untyped>::new(&self.dead_letters, binds)).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        self.pool
            .one("replay a dead letter", Sql::<_, BigInt>::new(&self.replay, (bind::<SqlUuid, _>(id),)))
            .await
            .map(changed)
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        self.pool
            .one("discard a dead letter", Sql::<_, BigInt>::new(&self.discard, (bind::<SqlUuid, _>(id),)))
            .await
            .map(changed)
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let binds = (bind::<Text, _>(aggregate_type.to_owned()), bind::<Text, _>(aggregate_id.to_owned()));
        self.pool.one("park a key", Sql::<_, BigInt>::new(&self.park, binds)).await.map(changed)
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let binds = (bind::<Text, _>(aggregate_type.to_owned()), bind::<Text, _>(aggregate_id.to_owned()));
        self.pool.one("unpark a key", Sql::<_, BigInt>::new(&self.unpark, binds)).await.map(changed)
    }
}

struct DeadLetterRow(DeadLetter);

impl QueryableByName<Pg> for DeadLetterRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        let shard = ShardId(u16::try_from(small(row, 0)).unwrap_or(0));
        Ok(Self(DeadLetter {
            position: Position { shard, seq: big(row, 1), id: uuid(row, 2) },
            aggregate_type: lossy_text(row, 3).unwrap_or_default(),
            aggregate_id: lossy_text(row, 4),
            event_type: lossy_text(row, 5).unwrap_or_default(),
            reason: lossy_text(row, 6).unwrap_or_default(),
            error: lossy_text(row, 7).unwrap_or_default(),
            attempts: u32::try_from(int(row, 8)).unwrap_or(0),
            outcome_unknown: flag(row, 9),
            died_at: time_of(big(row, 10)).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        }))
    }
}
