//! What becomes of messages: delivered, failed, dead.

use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::ports::{
    Backlog, Burial, FailureMark, Fenced, Lease, ParkedKey, Position, Settler, ShardId, StorageError,
};
use uuid::Uuid;

use super::backlog;
use super::error::unexpected_reply;
use super::leases::micros;
use super::parked;
use super::pool::Pool;
use super::row::{CLOCK, big, id_literal, micros_of, number, text_literal};
use super::session::START;
use super::shared::Shared;
use crate::Tables;

/// Rows of one DELETE: what the server locks and logs at once stays small, and a lost reply costs no more than this.
const SETTLE_ROWS: usize = 1_000;

/// Characters of an error text that are kept.
const ERROR_CHARS: usize = 2_000;

/// Settles over one pool; estimates over another, so that a slow count delays no delivery.
pub(super) struct MysqlSettler {
    settles: Pool,
    control: Pool,
    shared: Arc<Shared>,
    tables: Tables,
}

impl MysqlSettler {
    pub(super) fn new(settles: Pool, control: Pool, shared: Arc<Shared>, tables: &Tables) -> Self {
        Self { settles, control, shared, tables: tables.clone() }
    }

    /// Deletes each row by its whole key: a statement that scanned would wait for the rows that producers have not committed yet. The
    /// order of the join makes them point look-ups. Of the ways to hand the keys over, this one is the quickest (MariaDB 10.11, 1,000
    /// rows: 9 µs a row, a UNION ALL 11 µs, VALUES 20 µs), and both servers have it.
    fn settle_text(&self, positions: &[Position]) -> String {
        let mut text = String::with_capacity(400 + positions.len() * 64);
        text.push_str("DELETE m FROM ");
        push_positions(&mut text, positions);
        let messages = self.tables.messages();
        let _ = write!(
            text,
            " STRAIGHT_JOIN {messages} AS m FORCE INDEX (PRIMARY) ON m.shard = v.shard AND m.seq = v.seq AND m.id = unhex(v.id)"
        );
        text
    }

    /// The rows of a join that are there only when the lease stands.
    fn fence(&self, owner: Uuid, lease: &Lease, position: &Position) -> Fence {
        let Position { shard, seq, id } = *position;
        let (leases, messages) = (self.tables.leases(), self.tables.messages());
        let lease = format!("l.shard = {} AND l.owner = {} AND l.epoch = {}", shard.0, id_literal(owner), lease.epoch);
        // A row whose id cannot be read is known to the relay by the nil id.
        let id = if id.is_nil() { "octet_length(m.id) <> 16".to_owned() } else { format!("m.id = {}", id_literal(id)) };
        Fence {
            stands: format!("SELECT count(*) FROM {leases} AS l WHERE {lease}"),
            joined: format!(
                "{leases} AS l STRAIGHT_JOIN {messages} AS m FORCE INDEX (PRIMARY) ON m.shard = {} AND m.seq = {seq} AND {id}",
                shard.0
            ),
            lease,
        }
    }
}

/// Parts of a fenced statement.
struct Fence {
    /// Counts the lease when it stands.
    stands: String,
    /// The lease `l` and the message `m`.
    joined: String,
    /// The condition on `l`.
    lease: String,
}

/// The derived table `v` (shard, seq, id in hexadecimal) of these positions, made from JSON.
pub(super) fn push_positions(text: &mut String, positions: &[Position]) {
    text.push_str("json_table('[");
    for (number, position) in positions.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{},{},\"{}\"]", position.shard.0, position.seq, position.id.simple());
    }
    text.push_str(
        "]', '$[*]' COLUMNS (shard smallint PATH '$[0]', seq bigint PATH '$[1]', id char(32) PATH '$[2]')) AS v",
    );
}

#[async_trait]
impl Settler for MysqlSettler {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        // Two owners of a shard, one of them late, must lock the same rows in the same order.
        let mut positions = delivered.to_vec();
        positions.sort_unstable();
        for part in positions.chunks(SETTLE_ROWS) {
            self.settles.run_repeated("settle delivered messages", &self.settle_text(part)).await?;
        }
        Ok(())
    }

    /// One statement, which locks the lease row too because it is among those to be changed, and a look at what it did. No lock outlives
    /// the statement, whatever happens to the relay.
    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        const WHAT: &str = "mark a failed attempt";
        let Fence { stands, joined, lease } = self.fence(owner, lease, &mark.position);
        let Position { shard, seq, id } = mark.position;
        let text = format!(
            "UPDATE {joined} SET m.attempts = {}, m.last_error = {}, \
             m.retry_at = {CLOCK} + INTERVAL {} MICROSECOND, l.epoch = l.epoch WHERE {lease}; \
             {stands}; \
             SELECT {} FROM {} AS m WHERE m.shard = {} AND m.seq = {seq} AND m.id = {}",
            attempts_column(mark.attempts),
            text_literal(&error_column(&mark.error)),
            micros(mark.delay),
            micros_of("m.wake_at"),
            self.tables.messages(),
            shard.0,
            id_literal(id),
        );
        let sets = self.settles.run_repeated(WHAT, &text).await?;
        let [marked, stands, row] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        if let Some(wake_at) = row.rows.first().and_then(|row| number(row, 0)) {
            self.shared.will_wake((shard, wake_at, seq));
        }
        Ok(fenced(marked.matched > 0 || count(stands.rows.first()) > 0))
    }

    /// One transaction, sent in one packet: the server runs it to its COMMIT even when the relay is paused after it sent it. Only when a
    /// statement of it fails otherwise than by a deadlock must the relay still end it, by closing the connection, and when it is paused
    /// at that moment the server does so after the session's idle limit.
    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        const WHAT: &str = "move a message to the dead letters";
        let Fence { stands, joined, lease } = self.fence(owner, lease, &burial.position);
        let (dead_letters, parked_keys) = (self.tables.dead_letters(), self.tables.parked_keys());
        let id = "if(octet_length(m.id) = 16, m.id, x'00000000000000000000000000000000')";
        let park = if burial.park_key {
            // Counted by nobody, so it inserts only what is not there; the lease row, which is locked, keeps others from parking the key.
            format!(
                "INSERT INTO {parked_keys} (shard, aggregate_type, aggregate_id, parked_at, dead_letter_id) \
                 SELECT m.shard, cast(m.aggregate_type AS binary), cast(m.aggregate_id AS binary), {CLOCK}, {id} FROM {joined} \
                 WHERE {lease} AND m.aggregate_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {parked_keys} AS p \
                 WHERE p.shard = m.shard AND p.aggregate_type = cast(m.aggregate_type AS binary) \
                 AND p.aggregate_id = cast(m.aggregate_id AS binary)); "
            )
        } else {
            String::new()
        };
        let text = format!(
            "{START}{stands} FOR UPDATE; \
             INSERT INTO {dead_letters} (shard, seq, id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, \
             occurred_at, available_at, attempts, reason, error, outcome_unknown, died_at) \
             SELECT m.shard, m.seq, {id}, m.aggregate_type, m.aggregate_id, m.event_type, m.payload, m.content_type, m.headers, \
             m.occurred_at, m.available_at, {}, {}, {}, {}, {CLOCK} FROM {joined} WHERE {lease}; \
             {park}DELETE m FROM {joined} WHERE {lease}; COMMIT",
            attempts_column(burial.attempts),
            text_literal(burial.reason.as_str()),
            text_literal(&error_column(&burial.error)),
            i32::from(burial.outcome_unknown),
        );
        let sets = self.settles.run_repeated(WHAT, &text).await?;
        let stands = sets.get(1).ok_or_else(|| unexpected_reply(WHAT))?;
        Ok(fenced(count(stands.rows.first()) > 0))
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        parked::keys(&self.control, &self.tables, shards).await
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        backlog::measure(&self.control, &self.tables).await
    }
}

fn count(row: Option<&mysql_async::Row>) -> i64 {
    row.map_or(0, |row| big(row, 0))
}

fn fenced(stands: bool) -> Fenced {
    if stands { Fenced::Done } else { Fenced::Lost }
}

fn attempts_column(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}

fn error_column(error: &str) -> String {
    error.chars().take(ERROR_CHARS).collect()
}
