//! Dead letters and parked keys, for operators.

use async_trait::async_trait;
use mysql_async::Row;
use outbox_core::ports::{Admin, DeadLetter, Position, StorageError};
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::unexpected_reply;
use super::pool::Pool;
use super::row::{CLOCK, big, bytes_literal, id_literal, lossy_text, micros_of, shard, time_of, uuid};
use super::session::{ResultSet, START};
use crate::Tables;

/// Administration over a pool of its own. Every change is one transaction, sent in one packet. It locks the lease row before
/// anything else, in the order in which the relay does.
pub(super) struct MysqlAdmin {
    pool: Pool,
    tables: Tables,
}

impl MysqlAdmin {
    pub(super) fn new(pool: Pool, tables: &Tables) -> Self {
        Self { pool, tables: tables.clone() }
    }

    /// Removes a dead letter after `before` ran, and unparks its key unless another dead letter that still exists has parked it: that
    /// one's followers wait for it.
    async fn remove(&self, what: &str, id: Uuid, before: &str) -> Result<bool, StorageError> {
        let id = id_literal(id);
        let (dead, leases, parked) = (self.tables.dead_letters(), self.tables.leases(), self.tables.parked_keys());
        let text = format!(
            "{START}UPDATE {dead} AS d STRAIGHT_JOIN {leases} AS l ON l.shard = d.shard \
             SET l.control_version = l.control_version + 1 WHERE d.id = {id}; \
             {before}\
             DELETE p FROM {dead} AS d STRAIGHT_JOIN {parked} AS p ON p.shard = d.shard \
             AND p.aggregate_type = cast(d.aggregate_type AS binary) AND p.aggregate_id = cast(d.aggregate_id AS binary) \
             WHERE d.id = {id} AND (p.dead_letter_id IS NULL OR p.dead_letter_id = d.id \
             OR p.dead_letter_id NOT IN (SELECT o.id FROM {dead} AS o)); \
             DELETE FROM {dead} WHERE id = {id}; \
             COMMIT"
        );
        let sets = self.pool.run_repeated(what, &text).await?;
        changed(what, sets.len().checked_sub(2).and_then(|last| sets.get(last)))
    }

    /// Changes the parked keys after the control version of the key's shard was changed.
    async fn change(&self, what: &str, key: (&str, &str), change: &str) -> Result<bool, StorageError> {
        let shard = shard_of(key);
        let leases = self.tables.leases();
        let text = format!(
            "{START}UPDATE {leases} SET control_version = control_version + 1 WHERE shard = {shard}; {change}; COMMIT"
        );
        let sets = self.pool.run_repeated(what, &text).await?;
        changed(what, sets.get(2))
    }
}

/// Whether a statement changed anything.
fn changed(what: &str, set: Option<&ResultSet>) -> Result<bool, StorageError> {
    set.map(|set| set.matched > 0).ok_or_else(|| unexpected_reply(what))
}

/// The shard of a key as SQL, as the messages table computes it.
fn shard_of((aggregate_type, aggregate_id): (&str, &str)) -> String {
    let bytes = [aggregate_type.as_bytes(), b"\x1f", aggregate_id.as_bytes()].concat();
    format!("(crc32({}) & 63)", bytes_literal(&bytes))
}

#[async_trait]
impl Admin for MysqlAdmin {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let text = format!(
            "SELECT shard, seq, id, aggregate_type, aggregate_id, event_type, reason, error, attempts, outcome_unknown, {} \
             FROM {} FORCE INDEX (PRIMARY) WHERE seq > {after_seq} ORDER BY seq, id LIMIT {limit}",
            micros_of("died_at"),
            self.tables.dead_letters()
        );
        let sets = self.pool.run("list dead letters", &text).await?;
        Ok(sets.iter().flat_map(|set| &set.rows).map(dead_letter).collect())
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        const COLUMNS: &str = "seq, id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, \
            occurred_at, available_at";
        let again = format!(
            "INSERT INTO {} ({COLUMNS}) SELECT {COLUMNS} FROM {} WHERE id = {}; ",
            self.tables.messages(),
            self.tables.dead_letters(),
            id_literal(id)
        );
        self.remove("replay a dead letter", id, &again).await
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        self.remove("discard a dead letter", id, "").await
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type, aggregate_id);
        let (kind, id) = (bytes_literal(aggregate_type.as_bytes()), bytes_literal(aggregate_id.as_bytes()));
        let parked = self.tables.parked_keys();
        // Counts are rows matched, so an INSERT that met its row must not count: it inserts only what is not there. The lease row, which
        // this transaction has locked, keeps others from parking the key in between.
        let insert = format!(
            "INSERT INTO {parked} (shard, aggregate_type, aggregate_id, parked_at) \
             SELECT l.shard, {kind}, {id}, {CLOCK} FROM {} AS l WHERE l.shard = {} AND NOT EXISTS (SELECT 1 FROM {parked} AS p \
             WHERE p.shard = l.shard AND p.aggregate_type = {kind} AND p.aggregate_id = {id})",
            self.tables.leases(),
            shard_of(key)
        );
        self.change("park a key", key, &insert).await
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type, aggregate_id);
        let delete = format!(
            "DELETE FROM {} WHERE shard = {} AND aggregate_type = {} AND aggregate_id = {}",
            self.tables.parked_keys(),
            shard_of(key),
            bytes_literal(aggregate_type.as_bytes()),
            bytes_literal(aggregate_id.as_bytes())
        );
        self.change("unpark a key", key, &delete).await
    }
}

fn dead_letter(row: &Row) -> DeadLetter {
    DeadLetter {
        position: Position { shard: shard(row, 0), seq: big(row, 1), id: uuid(row, 2) },
        aggregate_type: lossy_text(row, 3).unwrap_or_default(),
        aggregate_id: lossy_text(row, 4),
        event_type: lossy_text(row, 5).unwrap_or_default(),
        reason: lossy_text(row, 6).unwrap_or_default(),
        error: lossy_text(row, 7).unwrap_or_default(),
        attempts: u32::try_from(big(row, 8)).unwrap_or(0),
        outcome_unknown: big(row, 9) != 0,
        died_at: time_of(big(row, 10)).unwrap_or(OffsetDateTime::UNIX_EPOCH),
    }
}
