//! The statements of the reader, rendered once for each storage.

use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, SmallInt, Text, Timestamptz};

use crate::Tables;
use crate::postgres::row::Micros;
use crate::sql::Binds;

/// The columns of a row found, in the order that [`found`](super::found) reads them. A waiting row comes without its
/// payload, and so does one with a payload over the inline limit.
const COLUMNS: &str = "o.shard, o.seq, o.id, o.aggregate_type::text, o.aggregate_id::text, o.event_type::text, \
    CASE WHEN octet_length(o.payload) <= $1 AND (o.wake_at IS NULL OR o.wake_at <= (SELECT now FROM clock)) \
    THEN o.payload END, octet_length(o.payload), o.content_type::text, o.headers, o.occurred_at, o.attempts, o.wake_at";

/// The texts of the reader's statements.
#[derive(Debug)]
pub(in crate::postgres) struct ReadStatements {
    reads: Vec<String>,
    pub(super) sweep: String,
    pub(super) payloads: String,
    pub(super) last_value: String,
    pub(super) parked_keys: String,
    pub(super) idle: String,
}

/// The parts that a read has beside rows past the floors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) late: bool,
    pub(super) due: bool,
    pub(super) skim: bool,
}

impl Parts {
    const ALL: usize = 8;

    fn of(number: usize) -> Self {
        Self { late: number & 1 != 0, due: number & 2 != 0, skim: number & 4 != 0 }
    }

    fn number(self) -> usize {
        usize::from(self.late) | usize::from(self.due) << 1 | usize::from(self.skim) << 2
    }
}

impl ReadStatements {
    pub(in crate::postgres) fn new(tables: &Tables) -> Self {
        Self {
            reads: (0..Parts::ALL).map(|number| tables.render(&read(Parts::of(number)))).collect(),
            sweep: tables.render(&sweep()),
            payloads: tables.render(PAYLOADS),
            last_value: tables
                .render("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {{seq}}"),
            parked_keys: tables.render(crate::postgres::parked::PARKED_KEYS),
            idle: tables.render(super::idle::IDLE),
        }
    }

    /// The read with these parts.
    pub(super) fn read(&self, parts: Parts) -> &str {
        &self.reads[parts.number()]
    }
}

/// A read; the order of its parts is the order of their binds.
fn read(parts: Parts) -> String {
    let mut text = hot();
    let mut next = 5;
    if parts.late {
        text.push_str(&late_part(next));
        next += LATE_BINDS;
    }
    if parts.due {
        text.push_str(&due_part(next));
        next += DUE_BINDS;
    }
    if parts.skim {
        text.push_str(&skim_part(next));
    }
    text
}

/// Kinds of rows of a read, in its first column; a late row has the number of its range there.
pub(super) const HOT: i32 = -1;
/// A row that has become due.
pub(super) const DUE: i32 = -2;
/// When the next row of a shard becomes due.
pub(super) const NEXT_DUE: i32 = -3;
/// The snapshot, the sequence's last value and the clock.
pub(super) const META: i32 = -4;

/// How far a shard was skimmed, and when the next of the rows skipped becomes due.
pub(super) const SKIMMED: i32 = -5;

const LATE_BINDS: usize = 8;
const DUE_BINDS: usize = 5;

fn clock() -> &'static str {
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now) "
}

/// The leases of all shards, as `shard:epoch:control_version,…`.
const LEASES: &str =
    "(SELECT string_agg(l.shard || ':' || l.epoch || ':' || l.control_version, ',') FROM {{leases}} AS l)";

/// The start of the server: another value, another server or a restarted one.
const STARTED: &str = "pg_postmaster_start_time()::text";

/// The row that says at which snapshot a read was made and by which server, with the leases at that snapshot.
fn meta(seq: &str) -> String {
    let meta = bare(META, "0", seq, "pg_current_snapshot()", "(SELECT now FROM clock)");
    meta.replacen("NULL::text", LEASES, 1).replacen("NULL::text", STARTED, 1)
}

/// A row of every read that carries no message: (kind, shard, seq, text, time).
fn bare(kind: i32, shard: &str, seq: &str, text: &str, time: &str) -> String {
    format!(
        "SELECT {kind}::int4, {shard}::int2, ({seq})::int8, NULL::uuid, {text}::text, NULL::text, NULL::text, \
         NULL::bytea, NULL::int4, NULL::text, NULL::jsonb, NULL::timestamptz, NULL::int4, {time}"
    )
}

fn hot() -> String {
    let meta = meta("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {{seq}}");
    format!(
        "{}{meta} UNION ALL SELECT {HOT}, m.* FROM unnest($2::int2[], $3::int8[], $4::int8[]) AS f(shard, floor, rows) \
         CROSS JOIN LATERAL (SELECT {COLUMNS} FROM {{{{messages}}}} AS o WHERE o.shard = f.shard AND o.seq > f.floor \
         ORDER BY o.seq LIMIT f.rows) AS m",
        clock()
    )
}

/// Ranges below the floors, in the order given; one is read when it must be always, or when a transaction that it
/// watches has ended at this statement's snapshot. Rows that wait and never failed have left the order, and rows of parked
/// keys are not wanted: both are left out, as there may be millions, and the shard's next due time is asked for instead.
fn late_part(first: usize) -> String {
    let [shards, after, upto, always, ranges, xids, parked, limit] = places(first);
    let next = bare(NEXT_DUE, "l.shard", "0", "NULL", "n.wake_at");
    format!(
        " UNION ALL (SELECT (r.i - 1)::int4, m.* FROM unnest({shards}::int2[], {after}::int8[], {upto}::int8[], \
         {always}::bool[]) WITH ORDINALITY AS r(shard, after, upto, always, i) CROSS JOIN LATERAL (SELECT {COLUMNS} \
         FROM {{{{messages}}}} AS o WHERE o.shard = r.shard AND o.seq > r.after AND o.seq <= r.upto \
         AND (o.attempts > 0 OR o.wake_at IS NULL OR o.wake_at <= (SELECT now FROM clock)) \
         AND (NOT {parked}::bool OR {NOT_PARKED}) ORDER BY o.seq LIMIT {limit}) AS m \
         WHERE r.always OR EXISTS (SELECT FROM unnest({ranges}::int8[], {xids}::text[]) AS w(i, xid) \
         WHERE w.i = r.i AND pg_visible_in_snapshot(w.xid::xid8, pg_current_snapshot())) LIMIT {limit}) \
         UNION ALL {next} FROM (SELECT DISTINCT u.shard FROM unnest({shards}::int2[]) AS u(shard)) AS l \
         CROSS JOIN LATERAL (SELECT o.wake_at FROM {{{{messages}}}} AS o WHERE o.shard = l.shard \
         AND o.wake_at > (SELECT now FROM clock) ORDER BY o.wake_at LIMIT 1) AS n"
    )
}

/// The key of the row `o` is not parked; true for a row without a key.
const NOT_PARKED: &str = "NOT EXISTS (SELECT FROM {{parked_keys}} AS p WHERE p.shard = o.shard \
    AND p.aggregate_type = o.aggregate_type AND p.aggregate_id = o.aggregate_id)";

/// The places of binds, `$first` and on.
fn places<const N: usize>(first: usize) -> [String; N] {
    std::array::from_fn(|i| format!("${}", first + i))
}

/// How far past its floor a shard holds nothing but rows that wait and rows of parked keys, among the next so many. A
/// failed row counts as one to be read: its followers must know of it.
fn skim_part(first: usize) -> String {
    let [shards, floors, rows] = places(first);
    let skimmed = bare(
        SKIMMED,
        "s.shard",
        "coalesce(k.found - 1, k.last)",
        "CASE WHEN k.found IS NULL THEN 'more' ELSE 'found' END",
        "k.wake_at",
    );
    format!(
        " UNION ALL {skimmed} FROM unnest({shards}::int2[], {floors}::int8[]) AS s(shard, floor) CROSS JOIN LATERAL \
         (SELECT max(n.seq) AS last, min(n.wake_at) FILTER (WHERE n.waits) AS wake_at, \
         min(n.seq) FILTER (WHERE n.attempts > 0 OR (n.free AND NOT n.waits)) AS found \
         FROM (SELECT o.seq, o.wake_at, o.attempts, coalesce(o.wake_at > (SELECT now FROM clock), false) AS waits, \
         {NOT_PARKED} AS free FROM {{{{messages}}}} AS o WHERE o.shard = s.shard AND o.seq > s.floor \
         ORDER BY o.seq LIMIT {rows}) AS n) AS k WHERE k.last IS NOT NULL"
    )
}

fn due_part(first: usize) -> String {
    let [shards, floors, wakes, seqs, limit] = places(first);
    let next = bare(NEXT_DUE, "d.shard", "0", "NULL", "n.wake_at");
    format!(
        " UNION ALL SELECT {DUE}, m.* FROM unnest({shards}::int2[], {floors}::int8[], {wakes}::timestamptz[], {seqs}::int8[]) \
         AS d(shard, floor, wake_at, seq) CROSS JOIN LATERAL (SELECT {COLUMNS} FROM {{{{messages}}}} AS o \
         WHERE o.shard = d.shard AND o.wake_at IS NOT NULL AND (o.wake_at, o.seq) >= (d.wake_at, d.seq) \
         AND o.wake_at <= (SELECT now FROM clock) AND o.seq <= d.floor ORDER BY o.wake_at, o.seq LIMIT {limit}) AS m \
         UNION ALL {next} FROM unnest({shards}::int2[]) AS d(shard) CROSS JOIN LATERAL (SELECT o.wake_at FROM \
         {{{{messages}}}} AS o WHERE o.shard = d.shard AND o.wake_at > (SELECT now FROM clock) ORDER BY o.wake_at LIMIT 1) AS n"
    )
}

/// Everything between a cursor and the floor of each shard.
fn sweep() -> String {
    let meta = meta("0");
    format!(
        "{}{meta} UNION ALL SELECT {HOT}, m.* FROM unnest($2::int2[], $3::int8[], $4::int8[], $5::int8[]) \
         AS f(shard, after, upto, rows) CROSS JOIN LATERAL (SELECT {COLUMNS} FROM {{{{messages}}}} AS o \
         WHERE o.shard = f.shard AND o.seq > f.after AND o.seq <= f.upto ORDER BY o.seq LIMIT f.rows) AS m",
        clock()
    )
}

const PAYLOADS: &str = "SELECT d.i, o.payload FROM unnest($1::int2[], $2::int8[], $3::uuid[]) WITH ORDINALITY \
    AS d(shard, seq, id, i) CROSS JOIN LATERAL (SELECT m.payload FROM {{messages}} AS m \
    WHERE m.shard = d.shard AND m.seq = d.seq AND m.id = d.id LIMIT 1) AS o";

/// The binds of a read or a sweep.
#[derive(Debug, Default)]
pub(super) struct ReadBinds {
    pub(super) inline_bytes: i64,
    pub(super) shards: Vec<i16>,
    pub(super) floors: Vec<i64>,
    /// For a sweep only.
    pub(super) upto: Option<Vec<i64>>,
    pub(super) rows: Vec<i64>,
    pub(super) late: Option<LateBinds>,
    pub(super) due: Option<DueBinds>,
    pub(super) skim: Option<SkimBinds>,
}

impl ReadBinds {
    pub(super) fn parts(&self) -> Parts {
        Parts { late: self.late.is_some(), due: self.due.is_some(), skim: self.skim.is_some() }
    }
}

#[derive(Debug, Default)]
pub(super) struct LateBinds {
    pub(super) shards: Vec<i16>,
    pub(super) after: Vec<i64>,
    pub(super) upto: Vec<i64>,
    pub(super) always: Vec<bool>,
    /// Number of the range, from 1, for each of `xids`.
    pub(super) ranges: Vec<i64>,
    pub(super) xids: Vec<String>,
    /// Whether any key is known to be parked.
    pub(super) parked: bool,
    pub(super) limit: i64,
}

#[derive(Debug, Default)]
pub(super) struct DueBinds {
    pub(super) shards: Vec<i16>,
    pub(super) floors: Vec<i64>,
    pub(super) wakes: Vec<Micros>,
    pub(super) seqs: Vec<i64>,
    pub(super) limit: i64,
}

#[derive(Debug, Default)]
pub(super) struct SkimBinds {
    pub(super) shards: Vec<i16>,
    pub(super) floors: Vec<i64>,
    pub(super) rows: i64,
}

impl Binds<Pg> for ReadBinds {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_bind_param_value_only::<BigInt, _>(&self.inline_bytes)?;
        pass.push_bind_param_value_only::<Array<SmallInt>, _>(&self.shards)?;
        pass.push_bind_param_value_only::<Array<BigInt>, _>(&self.floors)?;
        if let Some(upto) = &self.upto {
            pass.push_bind_param_value_only::<Array<BigInt>, _>(upto)?;
        }
        pass.push_bind_param_value_only::<Array<BigInt>, _>(&self.rows)?;
        if let Some(late) = &self.late {
            pass.push_bind_param_value_only::<Array<SmallInt>, _>(&late.shards)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&late.after)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&late.upto)?;
            pass.push_bind_param_value_only::<Array<Bool>, _>(&late.always)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&late.ranges)?;
            pass.push_bind_param_value_only::<Array<Text>, _>(&late.xids)?;
            pass.push_bind_param_value_only::<Bool, _>(&late.parked)?;
            pass.push_bind_param_value_only::<BigInt, _>(&late.limit)?;
        }
        if let Some(due) = &self.due {
            pass.push_bind_param_value_only::<Array<SmallInt>, _>(&due.shards)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&due.floors)?;
            pass.push_bind_param_value_only::<Array<Timestamptz>, _>(&due.wakes)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&due.seqs)?;
            pass.push_bind_param_value_only::<BigInt, _>(&due.limit)?;
        }
        if let Some(skim) = &self.skim {
            pass.push_bind_param_value_only::<Array<SmallInt>, _>(&skim.shards)?;
            pass.push_bind_param_value_only::<Array<BigInt>, _>(&skim.floors)?;
            pass.push_bind_param_value_only::<BigInt, _>(&skim.rows)?;
        }
        Ok(())
    }
}
