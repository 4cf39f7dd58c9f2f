//! The texts of the reader's statements. Every one is one SELECT: at READ COMMITTED that is one snapshot.
//!
//! A statement has a few parts, joined by UNION ALL; as long as nothing sorts them, the server makes no temporary table for that.

use std::fmt::Write;

use outbox_core::ports::{Position, ShardId};

use super::ranges::Range;
use super::sort_out::Due;
use crate::Tables;
use crate::mysql::row::micros_of;

/// Kinds of rows, in the first column. A row of a range.
pub(super) const HOT: i32 = 1;
/// A row that has become due.
pub(super) const DUE: i32 = 2;
/// The key of a row below a floor: nothing but shard and `seq`.
pub(super) const AGAIN: i32 = 3;
/// When the next row becomes due.
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

    /// Rows of a range.
    pub(super) fn rows(&mut self, range: &Range) {
        let columns = columns(HOT, self.inline_bytes);
        let _ = write!(self.text, " UNION ALL (SELECT {columns} FROM {})", self.within(range));
    }

    /// The keys of a range below the floors.
    pub(super) fn again(&mut self, range: &Range) {
        let _ = write!(self.text, " UNION ALL (SELECT {AGAIN}, o.shard, o.seq, {NOTHING} FROM {})", self.within(range));
    }

    fn within(&self, range: &Range) -> String {
        within(self.tables, range)
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

    /// Rows of these shards that are due, from where the last read ended, and when the next one is.
    pub(super) fn due(&mut self, due: &Due) {
        let index = format!("`{}messages_wake`", self.tables.prefix());
        let messages = format!("{} AS o FORCE INDEX ({index})", self.tables.messages());
        let columns = columns(DUE, self.inline_bytes);
        let (wake_at, seq) = due.from;
        let from = if wake_at == i64::MIN {
            String::new()
        } else {
            // Written so that the range in the index begins at that row, among any number that are due at the same moment.
            let from = format!("TIMESTAMP'1970-01-01 00:00:00' + INTERVAL {wake_at} MICROSECOND");
            format!(" AND (o.wake_at > {from} OR (o.wake_at = {from} AND o.seq >= {seq}))")
        };
        let shards = list(&due.shards);
        let _ = write!(
            self.text,
            " UNION ALL (SELECT {columns} FROM {messages} WHERE o.wake_at <= {NOW}{from} AND o.shard IN ({shards}) \
             ORDER BY o.wake_at, o.seq LIMIT {}) \
             UNION ALL (SELECT {NEXT_DUE}, 0, 0, {NOTHING_BUT_TIME}, {} FROM {messages} \
             WHERE o.wake_at > {NOW} AND o.shard IN ({shards}) ORDER BY o.wake_at LIMIT 1)",
            due.limit,
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

/// What is there of ranges and of single rows, committed or not: (shard, `seq`). For a READ UNCOMMITTED session. Without any of them
/// there is nothing to ask.
pub(super) fn look<'r>(
    tables: &Tables,
    ranges: impl Iterator<Item = &'r Range>,
    keys: &[(ShardId, i64)],
) -> Option<String> {
    let messages = tables.messages();
    let ranges = ranges.map(|range| format!("(SELECT o.shard, o.seq FROM {})", within(tables, range)));
    let keys = keys.chunks(POSITIONS).map(|part| {
        let mut text = "(SELECT o.shard, o.seq FROM ".to_owned();
        push_keys(&mut text, part.iter().copied());
        let _ = write!(
            text,
            " STRAIGHT_JOIN {messages} AS o FORCE INDEX (PRIMARY) ON o.shard = v.shard AND o.seq = v.seq)"
        );
        text
    });
    let parts: Vec<_> = ranges.chain(keys).collect();
    (!parts.is_empty()).then(|| parts.join(" UNION ALL "))
}

/// The rows `o` of a range, ascending.
fn within(tables: &Tables, range: &Range) -> String {
    let (messages, prefix) = (tables.messages(), tables.prefix());
    let upto = range.upto.map(|upto| format!(" AND o.seq <= {upto}")).unwrap_or_default();
    format!(
        "{messages} AS o FORCE INDEX (`{prefix}messages_seq`) WHERE o.seq > {}{upto} AND o.shard IN ({}) ORDER BY o.seq LIMIT {}",
        range.after,
        list(&range.shards),
        range.limit
    )
}

fn list(shards: &[ShardId]) -> String {
    let numbers: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
    numbers.join(",")
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
