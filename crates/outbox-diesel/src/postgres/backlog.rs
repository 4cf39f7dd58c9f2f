//! How much is pending, at a bounded cost.

use std::time::Duration;

use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use outbox_core::ports::Backlog;

use super::row::{PgRow, RowOf, big, flag};

/// Counts up to 2,000 and takes the statistics' number above: every relay of a fleet asks every few seconds. The oldest is looked for
/// among the first 16 rows of each shard: more would make a scrape pay for a million scheduled rows.
pub(super) const BACKLOG: &str = "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now), \
    counted AS MATERIALIZED (SELECT count(*) AS n FROM (SELECT FROM {{messages}} LIMIT 2001) AS few), \
    heads AS (SELECT m.* FROM {{leases}} AS l CROSS JOIN LATERAL (SELECT o.occurred_at, o.wake_at FROM {{messages}} AS o \
    WHERE o.shard = l.shard ORDER BY o.seq LIMIT 16) AS m) \
    SELECT CASE WHEN n <= 2000 THEN n ELSE greatest(n, (SELECT reltuples::int8 FROM pg_class \
    WHERE oid = '{{messages}}'::regclass)) END, n > 2000, \
    (SELECT (extract(epoch FROM (SELECT now FROM clock) - min(greatest(occurred_at, wake_at))) * 1000000)::int8 FROM heads \
    WHERE isfinite(occurred_at) AND (wake_at IS NULL OR wake_at <= (SELECT now FROM clock))), \
    (SELECT count(*) FROM (SELECT FROM {{dead_letters}} LIMIT 10000) AS few) FROM counted";

pub(super) struct BacklogRow(pub(super) Backlog);

impl QueryableByName<Pg> for BacklogRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        Ok(Self(Backlog {
            pending: big(row, 0).max(0).unsigned_abs(),
            estimated: flag(row, 1),
            oldest_age: row.bytes(2, |_| ()).map(|()| Duration::from_micros(big(row, 2).max(0).unsigned_abs())),
            dead_letters: big(row, 3).max(0).unsigned_abs(),
        }))
    }
}
