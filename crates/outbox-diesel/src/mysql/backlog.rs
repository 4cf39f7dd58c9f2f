//! How much is pending, at a bounded cost.

use std::fmt::Write;
use std::time::Duration;

use outbox_core::ports::{Backlog, StorageError};

use super::error::unexpected_reply;
use super::pool::Pool;
use super::row::{CLOCK, big, micros_of, number};
use crate::Tables;

/// Rows that are counted one by one; above, the number is an estimate: every relay of a fleet asks every few seconds.
const COUNTED: u32 = 2_000;

/// Rows of each shard among which the oldest is looked for: more would make a scrape pay for a million scheduled rows.
const HEADS: u32 = 16;

/// Shards whose heads are looked at. Fixed by the migration.
const SHARDS: u16 = 64;

pub(super) async fn measure(pool: &Pool, tables: &Tables) -> Result<Backlog, StorageError> {
    const WHAT: &str = "measure the backlog";
    let sets = pool.run(WHAT, &text(tables)).await?;
    let [counted, age, dead] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
    let first = |set: &super::session::ResultSet| set.rows.first().map_or(0, |row| big(row, 0).max(0).unsigned_abs());
    let counted = counted.rows.first().ok_or_else(|| unexpected_reply(WHAT))?;
    let (few, estimate) = (big(counted, 0).max(0).unsigned_abs(), big(counted, 1).max(0).unsigned_abs());
    let estimated = few > u64::from(COUNTED);
    Ok(Backlog {
        pending: if estimated { estimate.max(few) } else { few },
        estimated,
        oldest_age: age
            .rows
            .first()
            .and_then(|row| number(row, 0))
            .map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())),
        dead_letters: first(dead),
    })
}

fn text(tables: &Tables) -> String {
    let messages = tables.messages();
    let schema = tables.schema().map_or_else(|| "database()".to_owned(), |schema| format!("'{schema}'"));
    let name = format!("{}messages", tables.prefix());
    let age =
        format!("timestampdiff(MICROSECOND, greatest(h.occurred_at, coalesce(h.wake_at, h.occurred_at)), {CLOCK})");
    let mut text = format!(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM {messages} LIMIT {}) AS few), (SELECT t.table_rows \
         FROM information_schema.tables AS t WHERE t.table_schema = {schema} AND t.table_name = '{name}'); \
         SELECT max({age}) FROM (",
        COUNTED + 1
    );
    for shard in 0..SHARDS {
        let union = if shard == 0 { "" } else { " UNION ALL " };
        let _ = write!(
            text,
            "{union}(SELECT occurred_at, wake_at FROM {messages} FORCE INDEX (PRIMARY) WHERE shard = {shard} \
             ORDER BY seq LIMIT {HEADS})"
        );
    }
    let _ = write!(
        text,
        ") AS h WHERE {} IS NOT NULL AND (h.wake_at IS NULL OR h.wake_at <= {CLOCK}); \
         SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 10000) AS few",
        micros_of("h.occurred_at"),
        tables.dead_letters()
    );
    text
}
