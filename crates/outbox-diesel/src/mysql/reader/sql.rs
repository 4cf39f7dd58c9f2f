//! The texts of the reader's statements. Every one is one SELECT: at READ COMMITTED that is one snapshot.
//!
//! MariaDB 10 has no lateral joins, so a statement has one range a shard, joined by UNION ALL; as long as nothing sorts them, the
//! server makes no temporary table for that.

use std::fmt::Write;

use outbox_core::order::{Again, HotRange, Look};
use outbox_core::ports::{Position, ShardId};

use crate::Tables;
use crate::mysql::row::micros_of;
use crate::reading::DueFrom;

/// Kinds of rows, in the first column. A row past a floor.
pub(super) const HOT: i32 = 1;
/// A row that has become due.
pub(super) const DUE: i32 = 2;
/// The key of a row below a floor: nothing but shard and `seq`.
pub(super) const AGAIN: i32 = 3;
/// When the next row of a shard becomes due.
pub(super) const NEXT_DUE: i32 = 4;
/// The clock and the leases.
pub(super) const META: i32 = 5;

/// The clock of a statement: it stands still while the statement runs, so an index range can end at it.
const NOW: &str = "utc_timestamp(6)";

/// Rows that one dirty read looks up by key.
const POSITIONS: usize = 4_096;

/// A statement that grows part by part.
pub(super) struct Statement<'t> {
    tables: &'t Tables,
    /// Largest payload that comes with its row, in bytes.
    inline_bytes: usize,
    text: String,
}

impl<'t> Statement<'t> {
    /// Starts with the clock and the leases.
    pub(super) fn new(tables: &'t Tables, inline_bytes: usize) -> Self {
        let clock = micros_of(NOW);
        let leases = tables.leases();
        let text = format!(
            "SELECT {META}, 0, 0, NULL, (SELECT group_concat(l.shard, ':', l.epoch, ':', l.control_version) FROM {leases} AS l), \
             NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, {clock}"
        );
        Self { tables, inline_bytes, text }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Rows of `after < seq`, and `seq <= upto` when that is given.
    pub(super) fn range(&mut self, range: &HotRange, upto: Option<i64>) {
        let columns = columns(HOT, self.inline_bytes);
        let HotRange { shard, after, limit } = *range;
        let messages = self.tables.messages();
        let _ = write!(
            self.text,
            " UNION ALL (SELECT {columns} FROM {messages} AS o FORCE INDEX (PRIMARY) WHERE o.shard = {} AND o.seq > {after}",
            shard.0
        );
        if let Some(upto) = upto {
            let _ = write!(self.text, " AND o.seq <= {upto}");
        }
        let _ = write!(self.text, " ORDER BY o.seq LIMIT {limit})");
    }

    /// The keys of a range below a floor.
    pub(super) fn again(&mut self, range: &Again, limit: usize) {
        let Again { shard, after, upto, .. } = *range;
        let _ = write!(
            self.text,
            " UNION ALL (SELECT {AGAIN}, o.shard, o.seq, {NOTHING} FROM {} AS o FORCE INDEX (PRIMARY) WHERE o.shard = {} \
             AND o.seq > {after} AND o.seq <= {upto} ORDER BY o.seq LIMIT {limit})",
            self.tables.messages(),
            shard.0
        );
    }

    /// The keys of those of these rows that are committed.
    pub(super) fn watched(&mut self, keys: &[(ShardId, i64)]) {
        if keys.is_empty() {
            return;
        }
        let _ = write!(self.text, " UNION ALL (SELECT {AGAIN}, o.shard, o.seq, {NOTHING} FROM ");
        push_keys(&mut self.text, keys.iter().copied());
        let _ = write!(
            self.text,
            " STRAIGHT_JOIN {} AS o FORCE INDEX (PRIMARY) ON o.shard = v.shard AND o.seq = v.seq)",
            self.tables.messages()
        );
    }

    /// Rows at or below the floor that are due, from where the last read ended, and when the next one is.
    pub(super) fn due(&mut self, shard: ShardId, (wake_at, seq): DueFrom, floor: i64, limit: usize) {
        let messages = self.tables.messages();
        let index = format!("`{}messages_wake`", self.tables.prefix());
        let columns = columns(DUE, self.inline_bytes);
        let from = if wake_at == i64::MIN {
            String::new()
        } else {
            let from = format!("TIMESTAMP'1970-01-01 00:00:00' + INTERVAL {wake_at} MICROSECOND");
            format!(" AND o.wake_at >= {from} AND (o.wake_at > {from} OR o.seq >= {seq})")
        };
        let shard = shard.0;
        let _ = write!(
            self.text,
            " UNION ALL (SELECT {columns} FROM {messages} AS o FORCE INDEX ({index}) WHERE o.shard = {shard} \
             AND o.wake_at IS NOT NULL{from} AND o.wake_at <= {NOW} AND o.seq <= {floor} ORDER BY o.wake_at, o.seq LIMIT {limit}) \
             UNION ALL (SELECT {NEXT_DUE}, {shard}, 0, {NOTHING_BUT_TIME}, {} FROM {messages} AS o FORCE INDEX ({index}) \
             WHERE o.shard = {shard} AND o.wake_at > {NOW} ORDER BY o.wake_at LIMIT 1)",
            micros_of("o.wake_at")
        );
    }
}

/// The columns of a row found, in the order that [`found`](super::found) reads them. A waiting row comes without its payload, and so
/// does one with a payload over the inline limit. Times are numbers: a date that no calendar has is NULL then, and not an error.
fn columns(kind: i32, inline_bytes: usize) -> String {
    let (occurred_at, wake_at) = (micros_of("o.occurred_at"), micros_of("o.wake_at"));
    format!(
        "{kind}, o.shard, o.seq, o.id, o.aggregate_type, o.aggregate_id, o.event_type, \
         if(octet_length(o.payload) <= {inline_bytes} AND (o.wake_at IS NULL OR o.wake_at <= {NOW}), o.payload, NULL), \
         octet_length(o.payload), o.content_type, o.headers, {occurred_at}, o.attempts, {wake_at}"
    )
}

/// The columns after `seq` of a row of which only the key is wanted.
const NOTHING: &str = "NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL";

/// The same without the last one.
const NOTHING_BUT_TIME: &str = "NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0";

/// The rows of these keys, whole.
pub(super) fn rows_of(tables: &Tables, keys: &[(ShardId, i64)], inline_bytes: usize) -> String {
    let mut text = format!("SELECT {} FROM ", columns(AGAIN, inline_bytes));
    push_keys(&mut text, keys.iter().copied());
    let _ = write!(
        text,
        " STRAIGHT_JOIN {} AS o FORCE INDEX (PRIMARY) ON o.shard = v.shard AND o.seq = v.seq",
        tables.messages()
    );
    text
}

/// The payloads of these rows: (shard, `seq`, id, payload).
pub(super) fn payloads_of(tables: &Tables, positions: &[Position]) -> String {
    let mut text = "SELECT o.shard, o.seq, o.id, o.payload FROM ".to_owned();
    push_keys(&mut text, positions.iter().map(|position| (position.shard, position.seq)));
    let _ = write!(
        text,
        " STRAIGHT_JOIN {} AS o FORCE INDEX (PRIMARY) ON o.shard = v.shard AND o.seq = v.seq",
        tables.messages()
    );
    text
}

/// What is there of ranges and of single rows, committed or not: (shard, `seq`). For a READ UNCOMMITTED session.
pub(super) fn look(tables: &Tables, look: &Look) -> String {
    let messages = tables.messages();
    let mut text = String::new();
    for range in &look.ranges {
        let union = if text.is_empty() { "" } else { " UNION ALL " };
        let _ = write!(
            text,
            "{union}(SELECT shard, seq FROM {messages} FORCE INDEX (PRIMARY) WHERE shard = {} AND seq > {} AND seq <= {} \
             ORDER BY seq LIMIT {})",
            range.shard.0, range.after, range.upto, range.limit
        );
    }
    for part in look.keys.chunks(POSITIONS) {
        let union = if text.is_empty() { "" } else { " UNION ALL " };
        let _ = write!(text, "{union}(SELECT o.shard, o.seq FROM ");
        push_keys(&mut text, part.iter().copied());
        let _ = write!(
            text,
            " STRAIGHT_JOIN {messages} AS o FORCE INDEX (PRIMARY) ON o.shard = v.shard AND o.seq = v.seq)"
        );
    }
    text
}

/// The derived table `v` (shard, seq), made from JSON: a constant list that both servers take, and that is looked up row by row.
fn push_keys(text: &mut String, keys: impl Iterator<Item = (ShardId, i64)>) {
    text.push_str("json_table('[");
    for (number, (shard, seq)) in keys.enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{},{seq}]", shard.0);
    }
    text.push_str("]', '$[*]' COLUMNS (shard smallint PATH '$[0]', seq bigint PATH '$[1]')) AS v");
}
