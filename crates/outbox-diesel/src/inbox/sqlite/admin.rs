//! Dead letters and parked keys, for operators.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Consumer, InboxAdmin, InboxDeadLetter, InboxParkedKey, OrderingKey, ParkedBy};
use outbox_core::ports::StorageError;
use time::OffsetDateTime;

use super::row::{COLUMNS, LetterRow, LetterTypes};
use super::sql::{Common, Place, PlaceTypes, SHARED, render};
use super::writer::Writer;
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, unix_time};
use crate::sql::{Sql, bind};

pub(super) struct SqliteInboxAdmin {
    writer: Writer,
    statements: Arc<Statements>,
}

struct Statements {
    common: Common,
    dead_letters: String,
    find: String,
    hold_key: String,
    hold: String,
    remove: String,
    pass: String,
    parked_keys: String,
    reason: String,
    settle: String,
}

impl SqliteInboxAdmin {
    pub(super) fn new(writer: Writer, tables: &InboxTables) -> Self {
        let sql = |text: &str| render(tables, &text.replace("{COLUMNS}", COLUMNS).replace("{SHARED}", SHARED));
        let statements = Statements {
            common: Common::new(tables),
            dead_letters: sql(
                "SELECT {COLUMNS}, CAST(reason AS BLOB), CAST(error AS BLOB), died_at FROM {{dead_letters}} \
                 WHERE consumer = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            ),
            find: sql("SELECT source, id, ordering_key FROM {{dead_letters}} WHERE consumer = ?1 AND seq = ?2"),
            hold_key: sql(HOLD_KEY),
            hold: sql("INSERT INTO {{held}} (seq, {SHARED}, status, due_at) SELECT seq, {SHARED}, 'waiting', {{now}} \
                 FROM {{dead_letters}} WHERE seq = ?1"),
            remove: sql("DELETE FROM {{dead_letters}} WHERE seq = ?1"),
            pass: sql("UPDATE {{dead_letters}} SET parks_key = FALSE WHERE seq = ?1 AND parks_key"),
            parked_keys: sql("SELECT ordering_key, reason, parked_at FROM {{parked_keys}} \
                 WHERE consumer = ?1 AND ordering_key > ?2 ORDER BY ordering_key LIMIT ?3"),
            reason: sql("SELECT reason FROM {{parked_keys}} WHERE consumer = ?1 AND ordering_key = ?2"),
            settle: sql(SETTLE),
        };
        Self { writer, statements: Arc::new(statements) }
    }
}

/// Parks the key unless it is parked.
const HOLD_KEY: &str = "INSERT INTO {{parked_keys}} (consumer, ordering_key, reason, parked_at) VALUES (?1, ?2, 'held', {{now}}) \
    ON CONFLICT (consumer, ordering_key) DO NOTHING";

/// From here on the key is parked for its dead letters, or else for what is held of it.
const SETTLE: &str = "UPDATE {{parked_keys}} SET reason = CASE WHEN EXISTS (SELECT 1 FROM {{dead_letters}} AS d \
    WHERE d.consumer = ?1 AND d.ordering_key = ?2 AND d.parks_key) THEN 'dead_letter' ELSE 'held' END \
    WHERE consumer = ?1 AND ordering_key = ?2";

impl Statements {
    fn find(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, seq: i64) -> QueryResult<Option<Place>> {
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<BigInt, _>(seq));
        Sql::<_, PlaceTypes>::new(&self.find, binds).get_result::<Place>(sqlite).optional()
    }

    fn replay(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, seq: i64) -> QueryResult<bool> {
        let Some((source, id, key)) = self.find(sqlite, consumer, seq)? else { return Ok(false) };
        if let (Some(source), Some(id)) = (source, id) {
            self.common.set_message(sqlite, consumer, &source, &id, Status::Held)?;
        }
        Sql::<_>::new(&self.hold, (bind::<BigInt, _>(seq),)).execute(sqlite)?;
        Sql::<_>::new(&self.remove, (bind::<BigInt, _>(seq),)).execute(sqlite)?;
        if let Some(key) = key {
            let binds = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key.as_slice()));
            Sql::<_>::new(&self.hold_key, binds).execute(sqlite)?;
            self.settle_without_letter(sqlite, consumer, &key)?;
        }
        Ok(true)
    }

    fn discard(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, seq: i64) -> QueryResult<bool> {
        let Some((source, id, key)) = self.find(sqlite, consumer, seq)? else { return Ok(false) };
        if let (Some(source), Some(id)) = (source, id) {
            // from now on it ages
            self.common.set_message(sqlite, consumer, &source, &id, Status::Processed)?;
        }
        Sql::<_>::new(&self.remove, (bind::<BigInt, _>(seq),)).execute(sqlite)?;
        if let Some(key) = key {
            self.settle_without_letter(sqlite, consumer, &key)?;
        }
        Ok(true)
    }

    fn pass(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, seq: i64) -> QueryResult<bool> {
        let Some((_, _, Some(key))) = self.find(sqlite, consumer, seq)? else { return Ok(false) };
        if Sql::<_>::new(&self.pass, (bind::<BigInt, _>(seq),)).execute(sqlite)? == 0 {
            return Ok(false);
        }
        self.settle_without_letter(sqlite, consumer, &key)?;
        Ok(true)
    }

    fn unpark(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, key: &[u8]) -> QueryResult<bool> {
        if self.parked_by(sqlite, consumer, key)? != Some(ParkedBy::Operator) {
            return Ok(false);
        }
        self.settle(sqlite, consumer, key)?;
        Ok(true)
    }

    /// One of its dead letters is gone, or parks it no more.
    fn settle_without_letter(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, key: &[u8]) -> QueryResult<()> {
        match self.parked_by(sqlite, consumer, key)? {
            Some(ParkedBy::DeadLetter) => self.settle(sqlite, consumer, key),
            Some(ParkedBy::Held | ParkedBy::Operator) | None => Ok(()),
        }
    }

    /// Parks a key for what is left of its reasons.
    fn settle(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, key: &[u8]) -> QueryResult<()> {
        let of_key = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        Sql::<_>::new(&self.settle, of_key).execute(sqlite)?;
        self.common.unpark(sqlite, consumer, key)
    }

    fn parked_by(
        &self,
        sqlite: &mut SqliteConnection,
        consumer: &Consumer,
        key: &[u8],
    ) -> QueryResult<Option<ParkedBy>> {
        let of_key = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        let reason = Sql::<_, Text>::new(&self.reason, of_key).get_result::<String>(sqlite).optional()?;
        Ok(reason.map(|reason| ParkedBy::from_stored(&reason).unwrap_or(ParkedBy::Operator)))
    }
}

#[async_trait]
impl InboxAdmin for SqliteInboxAdmin {
    async fn dead_letters(
        &self,
        consumer: &Consumer,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<InboxDeadLetter>, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let list = move |sqlite: &mut SqliteConnection| {
            let limit = bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
            let binds = (bind::<Text, _>(consumer.as_str()), bind::<BigInt, _>(after_seq), limit);
            Sql::<_, LetterTypes>::new(&statements.dead_letters, binds).load::<LetterRow>(sqlite)
        };
        let rows = self.writer.read("list dead letters", list).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn replay(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let replay = move |sqlite: &mut SqliteConnection| statements.replay(sqlite, &consumer, seq);
        self.writer.write("replay a dead letter", replay).await
    }

    async fn discard(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let discard = move |sqlite: &mut SqliteConnection| statements.discard(sqlite, &consumer, seq);
        self.writer.write("discard a dead letter", discard).await
    }

    async fn pass(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let pass = move |sqlite: &mut SqliteConnection| statements.pass(sqlite, &consumer, seq);
        self.writer.write("pass a dead letter", pass).await
    }

    async fn parked_keys(
        &self,
        consumer: &Consumer,
        after: Option<&OrderingKey>,
        limit: usize,
    ) -> Result<Vec<InboxParkedKey>, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let after = after.map_or_else(Vec::new, |key| key.as_bytes().to_vec());
        let list = move |sqlite: &mut SqliteConnection| {
            let limit = bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
            let binds = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(after), limit);
            Sql::<_, (Binary, Text, BigInt)>::new(&statements.parked_keys, binds).load::<(Vec<u8>, String, i64)>(sqlite)
        };
        let rows = self.writer.read("list parked keys", list).await?;
        let key = |(key, reason, parked_at): (Vec<u8>, String, i64)| InboxParkedKey {
            key: OrderingKey::from_stored(key),
            by: ParkedBy::from_stored(&reason).unwrap_or(ParkedBy::Operator),
            parked_at: unix_time(parked_at).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn park(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        let (statements, consumer, key) = (self.statements.clone(), consumer.clone(), key.clone());
        let park = move |sqlite: &mut SqliteConnection| {
            statements.common.park(sqlite, &consumer, key.as_bytes(), ParkedBy::Operator)
        };
        self.writer.write("park a key", park).await
    }

    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        let (statements, consumer, key) = (self.statements.clone(), consumer.clone(), key.clone());
        let unpark = move |sqlite: &mut SqliteConnection| statements.unpark(sqlite, &consumer, key.as_bytes());
        self.writer.write("unpark a key", unpark).await
    }
}
