//! Positions, the clock, and how far back identities are known.

use std::collections::BTreeMap;

use async_trait::async_trait;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz};
use outbox_core::inbox::{Consumer, InboxMemory, Partition, RememberedPosition};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;

use crate::inbox::InboxTables;
use crate::inbox::shared::unix_time;
use crate::postgres::pool::Pool;
use crate::postgres::row::Micros;
use crate::sql::{Sql, bind};

pub(super) struct PostgresInboxMemory {
    pool: Pool,
    positions: String,
    remember: String,
    forget: String,
    horizon: String,
    purge: String,
}

impl PostgresInboxMemory {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        Self {
            pool,
            positions: tables.render(POSITIONS),
            remember: tables.render(REMEMBER),
            forget: tables.render(FORGET),
            horizon: tables.render(HORIZON),
            purge: tables.render(PURGE),
        }
    }
}

const POSITIONS: &str = "SELECT stream, partition, position FROM {{positions}} WHERE consumer = $1";

const REMEMBER: &str = "INSERT INTO {{positions}} AS known (consumer, stream, partition, position) \
    SELECT $1, p.stream, p.partition, p.position FROM unnest($2::text[], $3::integer[], $4::bigint[]) WITH ORDINALITY \
    AS p(stream, partition, position, n) ORDER BY p.n ON CONFLICT (consumer, stream, partition) \
    DO UPDATE SET position = excluded.position WHERE known.position < excluded.position RETURNING 1";

const FORGET: &str = "WITH gone AS (DELETE FROM {{positions}} WHERE consumer = $1 AND stream = $2 AND partition = $3 RETURNING 1) \
    SELECT EXISTS (SELECT FROM gone)";

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const HORIZON: &str = "INSERT INTO {{horizons}} AS known (consumer, horizon) VALUES ($1, $2) ON CONFLICT (consumer) \
    DO UPDATE SET horizon = excluded.horizon WHERE known.horizon < excluded.horizon RETURNING 1";

/// Point look-ups after a short range: a row that somebody else is at is left for later.
const PURGE: &str = "WITH old AS MATERIALIZED (SELECT m.source, m.id FROM {{messages}} AS m WHERE m.consumer = $1 \
    AND m.status = 'processed' AND m.processed_at < $2 ORDER BY m.processed_at LIMIT $3 FOR UPDATE SKIP LOCKED), \
    gone AS (DELETE FROM {{messages}} AS m USING old WHERE m.consumer = $1 AND m.source = old.source AND m.id = old.id RETURNING 1) \
    SELECT count(*) FROM gone";

#[async_trait]
impl InboxMemory for PostgresInboxMemory {
    async fn positions(&self, consumer: &Consumer) -> Result<Vec<RememberedPosition>, StorageError> {
        let binds = (bind::<Text, _>(consumer.as_str()),);
        let positions = Sql::<_, (Text, Integer, BigInt)>::new(&self.positions, binds);
        let rows: Vec<(String, i32, i64)> = self.pool.load("read the remembered positions", positions).await?;
        let row = |(stream, number, position)| {
            let stream: String = stream;
            RememberedPosition { partition: Partition::new(stream, number), position }
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn remember(&self, consumer: &Consumer, positions: &[RememberedPosition]) -> Result<(), StorageError> {
        let mut latest: BTreeMap<&Partition, i64> = BTreeMap::new();
        for RememberedPosition { partition, position } in positions {
            let known = latest.entry(partition).or_insert(*position);
            *known = (*known).max(*position);
        }
        if latest.is_empty() {
            return Ok(());
        }
        let streams: Vec<&str> = latest.keys().map(|partition| &*partition.stream).collect();
        let numbers: Vec<i32> = latest.keys().map(|partition| partition.number).collect();
        let positions: Vec<i64> = latest.into_values().collect();
        let (consumer, streams) = (bind::<Text, _>(consumer.as_str()), bind::<Array<Text>, _>(streams));
        let binds = (consumer, streams, bind::<Array<Integer>, _>(numbers), bind::<Array<BigInt>, _>(positions));
        let remember = Sql::<_, Integer>::new(&self.remember, binds);
        let _: Vec<i32> = self.pool.load("remember positions", remember).await?;
        Ok(())
    }

    async fn forget(&self, consumer: &Consumer, partition: &Partition) -> Result<bool, StorageError> {
        let (consumer, stream) = (bind::<Text, _>(consumer.as_str()), bind::<Text, _>(&*partition.stream));
        let binds = (consumer, stream, bind::<Integer, _>(partition.number));
        self.pool.one("forget a position", Sql::<_, Bool>::new(&self.forget, binds)).await
    }

    async fn now(&self) -> Result<OffsetDateTime, StorageError> {
        const WHAT: &str = "read the database's clock";
        let micros: i64 = self.pool.one(WHAT, Sql::<_, BigInt>::new(NOW, ())).await?;
        unix_time(micros).ok_or_else(|| {
            StorageError::new(StorageErrorKind::Refused, format!("cannot {WHAT}: it is outside of the years 1 to 9999"))
        })
    }

    async fn purge(&self, consumer: &Consumer, horizon: OffsetDateTime, limit: usize) -> Result<usize, StorageError> {
        const WHAT: &str = "purge identities";
        let Some(micros) = Micros::of(horizon) else { return Ok(0) };
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<Timestamptz, _>(micros));
        // committed by itself: whoever misses a row that the next statement removes sees the horizon
        let _: Vec<i32> = self.pool.load(WHAT, Sql::<_, Integer>::new(&self.horizon, binds)).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (consumer, horizon) = (bind::<Text, _>(consumer.as_str()), bind::<Timestamptz, _>(micros));
        let binds = (consumer, horizon, bind::<BigInt, _>(limit));
        let purged: i64 = self.pool.one(WHAT, Sql::<_, BigInt>::new(&self.purge, binds)).await?;
        Ok(usize::try_from(purged).unwrap_or(0))
    }
}
