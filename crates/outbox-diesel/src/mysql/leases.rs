//! Which relay owns which shard, by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Row;
use outbox_core::ports::{Heartbeat, Lease, Leases, RelayId, StorageError};

use super::error::unexpected_reply;
use super::pool::Pool;
use super::row::{CLOCK, big, id_literal, shard, text_literal};
use crate::Tables;

/// The least that a heartbeat waits, so that a lease of some milliseconds in a test can be renewed at all.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// Leases over a pool of their own: a renewal never waits for a read or a settle.
///
/// Every statement is a transaction of its own, so no lock outlives it, whatever happens to the relay. Rows are changed in shard order;
/// at READ COMMITTED an UPDATE looks at the committed version of a locked row first and waits only for one that it would change.
pub(super) struct MysqlLeases {
    pool: Pool,
    tables: Tables,
}

impl MysqlLeases {
    pub(super) fn new(pool: Pool, tables: &Tables) -> Self {
        Self { pool, tables: tables.clone() }
    }

    /// Half of a lease: a relay must know that its renewal failed while it still owns its shards.
    fn limit(&self, lease: Duration) -> Duration {
        (lease / 2).max(LEAST_WAIT).min(self.pool.timeout())
    }

    /// The leases that `relay` holds, of the shards that `and` leaves.
    fn held(&self, relay: &RelayId, and: &str) -> String {
        format!(
            "SELECT shard, epoch, control_version FROM {} WHERE owner = {} AND expires_at > {CLOCK} {and} ORDER BY shard",
            self.tables.leases(),
            id_literal(relay.owner)
        )
    }
}

#[async_trait]
impl Leases for MysqlLeases {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        const WHAT: &str = "renew leases";
        let (leases, relays) = (self.tables.leases(), self.tables.relays());
        let (owner, name, lease_micros) = (id_literal(relay.owner), text_literal(&relay.name), micros(lease));
        let accepts = i32::from(accepting);
        let text = format!(
            "INSERT INTO {relays} (owner, name, seen_at, accepting) VALUES ({owner}, {name}, {CLOCK}, {accepts}) \
             ON DUPLICATE KEY UPDATE name = {name}, seen_at = {CLOCK}, accepting = {accepts}; \
             UPDATE {leases} FORCE INDEX (PRIMARY) SET expires_at = {CLOCK} + INTERVAL {lease_micros} MICROSECOND \
             WHERE owner = {owner} AND expires_at > {CLOCK} ORDER BY shard; \
             {}; \
             SELECT count(*) FROM {relays} WHERE owner <> {owner} AND accepting \
             AND seen_at > {CLOCK} - INTERVAL {lease_micros} MICROSECOND",
            self.held(relay, "")
        );
        let sets = self.pool.run_within(WHAT, self.limit(lease), &text).await?;
        let [_, _, held, others] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let others = others.rows.first().map_or(0, |row| usize::try_from(big(row, 0)).unwrap_or(0));
        Ok(Heartbeat {
            held: held.rows.iter().map(lease_of).collect(),
            accepting_relays: others + usize::from(accepting),
        })
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        const WHAT: &str = "acquire leases";
        let (leases, relays, owner) = (self.tables.leases(), self.tables.relays(), id_literal(relay.owner));
        let free = format!("(owner IS NULL OR expires_at IS NULL OR expires_at <= {CLOCK})");
        // What somebody has locked is skipped. The locks of this look end with it; the UPDATE asks again whether they are free. Relays
        // that were not seen for a day are forgotten here, where it costs nothing.
        let look = format!(
            "SELECT shard FROM {leases} FORCE INDEX (PRIMARY) WHERE {free} ORDER BY shard LIMIT {limit} \
             FOR UPDATE SKIP LOCKED; \
             DELETE FROM {relays} WHERE seen_at < {CLOCK} - INTERVAL 1 DAY AND owner <> {owner}"
        );
        let sets = self.pool.run_within(WHAT, self.limit(lease), &look).await?;
        let found = sets.first().ok_or_else(|| unexpected_reply(WHAT))?;
        if found.rows.is_empty() {
            return Ok(Vec::new());
        }
        let shards: Vec<_> = found.rows.iter().map(|row| shard(row, 0).0.to_string()).collect();
        let these = format!("shard IN ({})", shards.join(", "));
        let take = format!(
            "UPDATE {leases} FORCE INDEX (PRIMARY) SET owner = {owner}, epoch = epoch + 1, \
             expires_at = {CLOCK} + INTERVAL {} MICROSECOND WHERE {these} AND {free} ORDER BY shard; {}",
            micros(lease),
            self.held(relay, &format!("AND {these}"))
        );
        let sets = self.pool.run_within(WHAT, self.limit(lease), &take).await?;
        let [_, held] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        Ok(held.rows.iter().map(lease_of).collect())
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        if leases.is_empty() {
            return Ok(());
        }
        let these: Vec<_> =
            leases.iter().map(|lease| format!("(shard = {} AND epoch = {})", lease.shard.0, lease.epoch)).collect();
        let text = format!(
            "UPDATE {} FORCE INDEX (PRIMARY) SET owner = NULL, expires_at = NULL WHERE owner = {} AND ({}) ORDER BY shard",
            self.tables.leases(),
            id_literal(relay.owner),
            these.join(" OR ")
        );
        self.pool.run_repeated("release leases", &text).await.map(drop)
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        let owner = id_literal(relay.owner);
        let text = format!(
            "UPDATE {} FORCE INDEX (PRIMARY) SET owner = NULL, expires_at = NULL WHERE owner = {owner} ORDER BY shard; \
             DELETE FROM {} WHERE owner = {owner}",
            self.tables.leases(),
            self.tables.relays()
        );
        self.pool.run_repeated("resign", &text).await.map(drop)
    }
}

fn lease_of(row: &Row) -> Lease {
    Lease { shard: shard(row, 0), epoch: big(row, 1), control_version: big(row, 2) }
}

/// Microseconds, at most 100 years.
pub(super) fn micros(duration: Duration) -> i64 {
    const MOST: i64 = 100 * 365 * 24 * 3600 * 1_000_000;
    i64::try_from(duration.as_micros()).unwrap_or(MOST).min(MOST)
}
