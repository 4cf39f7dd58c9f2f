//! Positions, the clock, and how far back identities are known.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::FutureExt;
use outbox_core::inbox::{Consumer, InboxMemory, Partition, RememberedPosition};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;

use super::held::name_of;
use super::json::{IDENTITIES, beside_locks, identities, table};
use super::row::identity;
use super::work::{Work, repeated};
use crate::inbox::InboxTables;
use crate::mysql::pool::Pool;
use crate::mysql::row::{big, bytes_literal, lossy_text, number, time_of};

pub(super) struct MysqlInboxMemory {
    pool: Pool,
    tables: InboxTables,
}

impl MysqlInboxMemory {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        Self { pool, tables: tables.clone() }
    }

    /// Looks without a lock, locks what nobody is at, and removes that: a row that somebody else is at is left for later.
    async fn purge_once(&self, consumer: &Consumer, before: &str, limit: usize) -> Result<usize, StorageError> {
        const WHAT: &str = "purge identities";
        let (name, prefix) = (name_of(consumer), self.tables.prefix());
        let is_old = format!("m.status = 'processed' AND m.processed_at < {before}");
        let old = self.tables.render(&format!(
            "SELECT m.source, m.id FROM {{{{messages}}}} AS m FORCE INDEX ({prefix}messages_purge) WHERE m.consumer = {name} \
             AND {is_old} ORDER BY m.processed_at LIMIT {limit}"
        ));
        let sets = self.pool.run(WHAT, &old).await?;
        let mut found: Vec<_> = sets.into_iter().flat_map(|set| set.rows).filter_map(|row| identity(&row, 0)).collect();
        if found.is_empty() {
            return Ok(0);
        }
        found.sort_unstable();
        let joined = |list: String| {
            format!(
                "{list} STRAIGHT_JOIN {{{{messages}}}} AS m FORCE INDEX (PRIMARY) ON m.consumer = {name} AND m.source = unhex(v.source) \
                 AND m.id = unhex(v.id)"
            )
        };
        let list = table(IDENTITIES, &identities(found.iter().map(|identity| (identity, ""))));
        let lock = joined(beside_locks(&list));
        let lock = self.tables.render(&format!("SELECT v.n FROM {lock} WHERE {is_old} FOR UPDATE SKIP LOCKED"));
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &lock).await?;
        let places = sets.iter().flat_map(|set| &set.rows).map(|row| big(row, 0));
        let locked = places.filter_map(|place| found.get(usize::try_from(place).ok()?.checked_sub(1)?));
        let list = table(IDENTITIES, &identities(locked.map(|identity| (identity, ""))));
        let remove = self.tables.render(&format!("DELETE m FROM {} WHERE {is_old}", joined(list)));
        let removed = work.run(&remove).await?.first().map_or(0, |set| set.matched);
        work.commit().await?;
        Ok(usize::try_from(removed).unwrap_or(0))
    }
}

/// A time as it stands in a statement.
fn time_literal(time: OffsetDateTime) -> String {
    let micros = time.unix_timestamp_nanos().div_euclid(1000);
    format!("(TIMESTAMP'1970-01-01 00:00:00.000000' + INTERVAL {micros} MICROSECOND)")
}

#[async_trait]
impl InboxMemory for MysqlInboxMemory {
    async fn positions(&self, consumer: &Consumer) -> Result<Vec<RememberedPosition>, StorageError> {
        let name = name_of(consumer);
        let text = self.tables.render(&format!(
            "SELECT stream, `partition`, position FROM {{{{positions}}}} FORCE INDEX (PRIMARY) WHERE consumer = {name}"
        ));
        let sets = self.pool.run("read the remembered positions", &text).await?;
        let position = |row: &mysql_async::Row| {
            let stream = lossy_text(row, 0).unwrap_or_default();
            let partition = Partition::new(stream, i32::try_from(big(row, 1)).unwrap_or(0));
            RememberedPosition { partition, position: big(row, 2) }
        };
        Ok(sets.iter().flat_map(|set| &set.rows).map(position).collect())
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
        let name = name_of(consumer);
        let row = |(partition, position): (&&Partition, &i64)| {
            let stream = bytes_literal(partition.stream.as_bytes());
            format!("({name}, {stream}, {}, {position})", partition.number)
        };
        let rows: Vec<String> = latest.iter().map(row).collect();
        let text = self.tables.render(&format!(
            "INSERT INTO {{{{positions}}}} (consumer, stream, `partition`, position) VALUES {} \
             ON DUPLICATE KEY UPDATE position = greatest(position, VALUES(position))",
            rows.join(", ")
        ));
        self.pool.run_repeated("remember positions", &text).await.map(drop)
    }

    async fn forget(&self, consumer: &Consumer, partition: &Partition) -> Result<bool, StorageError> {
        let text = self.tables.render(&format!(
            "DELETE FROM {{{{positions}}}} WHERE consumer = {} AND stream = {} AND `partition` = {}",
            name_of(consumer),
            bytes_literal(partition.stream.as_bytes()),
            partition.number
        ));
        let sets = self.pool.run_repeated("forget a position", &text).await?;
        Ok(sets.iter().any(|set| set.matched > 0))
    }

    async fn now(&self) -> Result<OffsetDateTime, StorageError> {
        const WHAT: &str = "read the database's clock";
        let sets = self.pool.run(WHAT, "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))").await?;
        let micros = sets.first().and_then(|set| set.rows.first()).and_then(|row| number(row, 0));
        micros.and_then(time_of).ok_or_else(|| {
            StorageError::new(StorageErrorKind::Refused, format!("cannot {WHAT}: it is outside of the years 1 to 9999"))
        })
    }

    async fn purge(&self, consumer: &Consumer, horizon: OffsetDateTime, limit: usize) -> Result<usize, StorageError> {
        if !(1..=9999).contains(&horizon.year()) {
            return Ok(0);
        }
        let before = time_literal(horizon);
        // committed by itself: whoever misses a row that is removed then sees the horizon
        let text = self.tables.render(&format!(
            "INSERT INTO {{{{horizons}}}} (consumer, horizon) VALUES ({}, {before}) \
             ON DUPLICATE KEY UPDATE horizon = greatest(horizon, {before})",
            name_of(consumer)
        ));
        self.pool.run_repeated("purge identities", &text).await?;
        repeated(|| self.purge_once(consumer, &before, limit).boxed()).await
    }
}
