//! Positions, the clock, and how far back identities are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Consumer, InboxMemory, Partition, RememberedPosition};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;

use super::sql::render;
use super::writer::Writer;
use crate::inbox::InboxTables;
use crate::inbox::shared::unix_time;
use crate::sql::{Sql, bind};
use crate::sqlite::append_rows::micros;

pub(super) struct SqliteInboxMemory {
    writer: Writer,
    statements: Arc<Statements>,
}

struct Statements {
    positions: String,
    remember: String,
    forget: String,
    now: String,
    horizon: String,
    purge: String,
}

impl SqliteInboxMemory {
    pub(super) fn new(writer: Writer, tables: &InboxTables) -> Self {
        let sql = |text| render(tables, text);
        let statements = Statements {
            positions: sql("SELECT stream, partition, position FROM {{positions}} WHERE consumer = ?1"),
            remember: sql(REMEMBER),
            forget: sql("DELETE FROM {{positions}} WHERE consumer = ?1 AND stream = ?2 AND partition = ?3"),
            now: sql("SELECT {{now}}"),
            horizon: sql(HORIZON),
            purge: sql(PURGE),
        };
        Self { writer, statements: Arc::new(statements) }
    }
}

const REMEMBER: &str = "INSERT INTO {{positions}} AS known (consumer, stream, partition, position) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (consumer, stream, partition) DO UPDATE SET position = excluded.position \
    WHERE known.position < excluded.position";

const HORIZON: &str = "INSERT INTO {{horizons}} AS known (consumer, horizon) VALUES (?1, ?2) ON CONFLICT (consumer) \
    DO UPDATE SET horizon = excluded.horizon WHERE known.horizon < excluded.horizon";

/// Point look-ups after a short range.
const PURGE: &str = "DELETE FROM {{messages}} WHERE (consumer, source, id) IN (SELECT consumer, source, id FROM {{messages}} \
    WHERE consumer = ?1 AND status = 'processed' AND processed_at < ?2 ORDER BY processed_at LIMIT ?3)";

#[async_trait]
impl InboxMemory for SqliteInboxMemory {
    async fn positions(&self, consumer: &Consumer) -> Result<Vec<RememberedPosition>, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let read = move |sqlite: &mut SqliteConnection| {
            let binds = (bind::<Text, _>(consumer.as_str()),);
            Sql::<_, (Text, Integer, BigInt)>::new(&statements.positions, binds).load::<(String, i32, i64)>(sqlite)
        };
        let rows = self.writer.read("read the remembered positions", read).await?;
        let row = |(stream, number, position): (String, i32, i64)| RememberedPosition {
            partition: Partition::new(stream, number),
            position,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn remember(&self, consumer: &Consumer, positions: &[RememberedPosition]) -> Result<(), StorageError> {
        let mut latest: BTreeMap<Partition, i64> = BTreeMap::new();
        for RememberedPosition { partition, position } in positions {
            let known = latest.entry(partition.clone()).or_insert(*position);
            *known = (*known).max(*position);
        }
        if latest.is_empty() {
            return Ok(());
        }
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let remember = move |sqlite: &mut SqliteConnection| {
            for (partition, position) in &latest {
                let (name, stream) = (bind::<Text, _>(consumer.as_str()), bind::<Text, _>(&*partition.stream));
                let binds = (name, stream, bind::<Integer, _>(partition.number), bind::<BigInt, _>(*position));
                Sql::<_>::new(&statements.remember, binds).execute(sqlite)?;
            }
            Ok(())
        };
        self.writer.write("remember positions", remember).await
    }

    async fn forget(&self, consumer: &Consumer, partition: &Partition) -> Result<bool, StorageError> {
        let (statements, consumer, partition) = (self.statements.clone(), consumer.clone(), partition.clone());
        let forget = move |sqlite: &mut SqliteConnection| {
            let (name, stream) = (bind::<Text, _>(consumer.as_str()), bind::<Text, _>(&*partition.stream));
            let binds = (name, stream, bind::<Integer, _>(partition.number));
            Sql::<_>::new(&statements.forget, binds).execute(sqlite)
        };
        Ok(self.writer.write("forget a position", forget).await? > 0)
    }

    async fn now(&self) -> Result<OffsetDateTime, StorageError> {
        const WHAT: &str = "read the database's clock";
        let statements = self.statements.clone();
        let read = move |sqlite: &mut SqliteConnection| Sql::<_, BigInt>::new(&statements.now, ()).get_result(sqlite);
        let micros: i64 = self.writer.read(WHAT, read).await?;
        unix_time(micros).ok_or_else(|| {
            StorageError::new(StorageErrorKind::Refused, format!("cannot {WHAT}: it is outside of the years 1 to 9999"))
        })
    }

    async fn purge(&self, consumer: &Consumer, horizon: OffsetDateTime, limit: usize) -> Result<usize, StorageError> {
        const WHAT: &str = "purge identities";
        let (statements, name, horizon) = (self.statements.clone(), consumer.clone(), micros(horizon));
        let raise = move |sqlite: &mut SqliteConnection| {
            let binds = (bind::<Text, _>(name.as_str()), bind::<BigInt, _>(horizon));
            Sql::<_>::new(&statements.horizon, binds).execute(sqlite)
        };
        // committed by itself: whoever misses a row that the next transaction removes sees the horizon
        self.writer.write(WHAT, raise).await?;
        let (statements, name) = (self.statements.clone(), consumer.clone());
        let remove = move |sqlite: &mut SqliteConnection| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let (name, horizon) = (bind::<Text, _>(name.as_str()), bind::<BigInt, _>(horizon));
            Sql::<_>::new(&statements.purge, (name, horizon, bind::<BigInt, _>(limit))).execute(sqlite)
        };
        self.writer.write(WHAT, remove).await
    }
}
