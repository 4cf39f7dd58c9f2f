//! Which relay owns which shard, by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use outbox_core::ports::{Heartbeat, Lease, Leases, RelayId, ShardId, StorageError};

use super::pool::Pool;
use super::reader::shard_column;
use crate::Tables;
use crate::sql::{Sql, bind};

/// The least that a heartbeat waits, so that a lease of some milliseconds in a test can be renewed at all.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// Leases over a pool of their own: a renewal never waits for a read or a settle.
pub(super) struct PostgresLeases {
    pool: Pool,
    heartbeat: String,
    acquire: String,
    release: String,
    resign: String,
}

impl PostgresLeases {
    pub(super) fn new(pool: Pool, tables: &Tables) -> Self {
        Self {
            pool,
            heartbeat: tables.render(HEARTBEAT),
            acquire: tables.render(ACQUIRE),
            release: tables.render(RELEASE),
            resign: tables.render(RESIGN),
        }
    }

    /// Half of a lease: a relay must know that its renewal failed while it still owns its shards.
    fn limit(&self, lease: Duration) -> Duration {
        (lease / 2).max(LEAST_WAIT).min(self.pool.timeout())
    }
}

/// Rows are locked in shard order before they are changed; the check of the time is repeated after a wait for a lock.
const HEARTBEAT: &str = "WITH alive AS (INSERT INTO {{relays}} AS r (owner, name, seen_at, accepting) \
    VALUES ($1, $2, clock_timestamp(), $4) ON CONFLICT (owner) DO UPDATE SET name = excluded.name, \
    seen_at = excluded.seen_at, accepting = excluded.accepting), \
    mine AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l WHERE l.owner = $1 AND l.expires_at > clock_timestamp() \
    ORDER BY l.shard FOR NO KEY UPDATE), \
    held AS (UPDATE {{leases}} AS l SET expires_at = clock_timestamp() + $3 * interval '1 microsecond' FROM mine \
    WHERE l.shard = mine.shard AND l.owner = $1 AND l.expires_at > clock_timestamp() \
    RETURNING l.shard, l.epoch, l.control_version), \
    others AS (SELECT count(*) AS n FROM {{relays}} AS r WHERE r.owner <> $1 AND r.accepting \
    AND r.seen_at > clock_timestamp() - $3 * interval '1 microsecond') \
    SELECT others.n + $4::int, held.shard, held.epoch, held.control_version FROM others LEFT JOIN held ON true";

/// Relays that were not seen for a day are forgotten here, where it costs nothing.
const ACQUIRE: &str = "WITH forgotten AS (DELETE FROM {{relays}} AS r \
    WHERE r.seen_at < clock_timestamp() - interval '1 day' AND r.owner <> $1), \
    free AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l \
    WHERE l.owner IS NULL OR l.expires_at IS NULL OR l.expires_at <= clock_timestamp() \
    ORDER BY l.shard LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) \
    UPDATE {{leases}} AS l SET owner = $1, epoch = l.epoch + 1, \
    expires_at = clock_timestamp() + $2 * interval '1 microsecond' FROM free WHERE l.shard = free.shard \
    RETURNING l.shard, l.epoch, l.control_version";

const RELEASE: &str = "WITH mine AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l \
    JOIN unnest($2::int2[], $3::int8[]) AS g(shard, epoch) ON g.shard = l.shard \
    WHERE l.owner = $1 AND l.epoch = g.epoch ORDER BY l.shard FOR NO KEY UPDATE OF l), \
    freed AS (UPDATE {{leases}} AS l SET owner = NULL, expires_at = NULL FROM mine \
    WHERE l.shard = mine.shard AND l.owner = $1 RETURNING 1) SELECT count(*) FROM freed";

const RESIGN: &str = "WITH mine AS MATERIALIZED (SELECT l.shard FROM {{leases}} AS l WHERE l.owner = $1 \
    ORDER BY l.shard FOR NO KEY UPDATE), \
    freed AS (UPDATE {{leases}} AS l SET owner = NULL, expires_at = NULL FROM mine \
    WHERE l.shard = mine.shard AND l.owner = $1 RETURNING 1), \
    gone AS (DELETE FROM {{relays}} AS r WHERE r.owner = $1) SELECT count(*) FROM freed";

type LeaseRow = (i16, i64, i64);

#[async_trait]
impl Leases for PostgresLeases {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        let binds = (
            bind::<SqlUuid, _>(relay.owner),
            bind::<Text, _>(relay.name.replace('\0', "")),
            bind::<BigInt, _>(micros(lease)),
            bind::<Bool, _>(accepting),
        );
        type Row = (BigInt, Nullable<SmallInt>, Nullable<BigInt>, Nullable<BigInt>);
        let rows: Vec<(i64, Option<i16>, Option<i64>, Option<i64>)> = self
            .pool
            .load_within("renew leases", self.limit(lease), Sql::<_, Row>::new(&self.heartbeat, binds))
            .await?;
        let accepting_relays = rows.first().map_or(0, |row| usize::try_from(row.0).unwrap_or(0));
        let mut held: Vec<_> = rows
            .into_iter()
            .filter_map(|(_, shard, epoch, control_version)| Some(lease_of((shard?, epoch?, control_version?))))
            .collect();
        held.sort_unstable_by_key(|lease| lease.shard);
        Ok(Heartbeat { held, accepting_relays })
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        let binds = (
            bind::<SqlUuid, _>(relay.owner),
            bind::<BigInt, _>(micros(lease)),
            bind::<Integer, _>(i32::try_from(limit).unwrap_or(i32::MAX)),
        );
        type Row = (SmallInt, BigInt, BigInt);
        let rows: Vec<LeaseRow> = self
            .pool
            .load_within("acquire leases", self.limit(lease), Sql::<_, Row>::new(&self.acquire, binds))
            .await?;
        let mut taken: Vec<_> = rows.into_iter().map(lease_of).collect();
        taken.sort_unstable_by_key(|lease| lease.shard);
        Ok(taken)
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        let binds = (
            bind::<SqlUuid, _>(relay.owner),
            bind::<Array<SmallInt>, _>(leases.iter().map(|lease| shard_column(lease.shard)).collect::<Vec<_>>()),
            bind::<Array<BigInt>, _>(leases.iter().map(|lease| lease.epoch).collect::<Vec<_>>()),
        );
        let _freed: i64 = self.pool.one("release leases", Sql::<_, BigInt>::new(&self.release, binds)).await?;
        Ok(())
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        let binds = (bind::<SqlUuid, _>(relay.owner),);
        let _freed: i64 = self.pool.one("resign", Sql::<_, BigInt>::new(&self.resign, binds)).await?;
        Ok(())
    }
}

fn lease_of((shard, epoch, control_version): LeaseRow) -> Lease {
    Lease { shard: ShardId(u16::try_from(shard).unwrap_or(0)), epoch, control_version }
}

/// Microseconds, at most 100 years.
fn micros(duration: Duration) -> i64 {
    const MOST: i64 = 100 * 365 * 24 * 3600 * 1_000_000;
    i64::try_from(duration.as_micros()).unwrap_or(MOST).min(MOST)
}
