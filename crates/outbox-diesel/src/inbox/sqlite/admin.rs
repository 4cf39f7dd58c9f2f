//! Dead letters and parked keys, for operators.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
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
    frees_key: String,
    parked_keys: String,
    reason: String,
    weaken: String,
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
            frees_key: sql(FREES_KEY),
            parked_keys: sql("SELECT ordering_key, reason, parked_at FROM {{parked_keys}} \
                 WHERE consumer = ?1 AND ordering_key > ?2 ORDER BY ordering_key LIMIT ?3"),
            reason: sql("SELECT reason FROM {{parked_keys}} WHERE consumer = ?1 AND ordering_key = ?2"),
            weaken: sql("UPDATE {{parked_keys}} SET reason = 'held' WHERE consumer = ?1 AND ordering_key = ?2"),
        };
        Self { writer, statements: Arc::new(statements) }
    }
}

/// Whatever parked the key before.
const HOLD_KEY: &str = "INSERT INTO {{parked_keys}} (consumer, ordering_key, reason, parked_at) VALUES (?1, ?2, 'held', {{now}}) \
    ON CONFLICT (consumer, ordering_key) DO UPDATE SET reason = 'held'";

/// Whether a dead letter has parked its key, and no other one has.
const FREES_KEY: &str = "SELECT EXISTS (SELECT 1 FROM {{dead_letters}} AS d WHERE d.seq = ?2 AND d.parks_key) \
    AND NOT EXISTS (SELECT 1 FROM {{dead_letters}} AS o WHERE o.consumer = ?1 AND o.ordering_key = ?3 AND o.parks_key AND o.seq <> ?2)";

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
        if let Some(key) = key {
            let binds = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
            Sql::<_>::new(&self.hold_key, binds).execute(sqlite)?;
        }
        Sql::<_>::new(&self.hold, (bind::<BigInt, _>(seq),)).execute(sqlite)?;
        Sql::<_>::new(&self.remove, (bind::<BigInt, _>(seq),)).execute(sqlite)?;
        Ok(true)
    }

    fn discard(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, seq: i64) -> QueryResult<bool> {
        let Some((source, id, key)) = self.find(sqlite, consumer, seq)? else { return Ok(false) };
        if let (Some(source), Some(id)) = (source, id) {
            // from now on it ages
            self.common.set_message(sqlite, consumer, &source, &id, Status::Processed)?;
        }
        if let Some(key) = &key {
            let (name, of_key) = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key.as_slice()));
            let frees = Sql::<_, Bool>::new(&self.frees_key, (name, bind::<BigInt, _>(seq), of_key));
            if frees.get_result::<bool>(sqlite)? {
                self.go_on(sqlite, consumer, key, ParkedBy::DeadLetter)?;
            }
        }
        Ok(Sql::<_>::new(&self.remove, (bind::<BigInt, _>(seq),)).execute(sqlite)? > 0)
    }

    /// Lets a key go on that was parked for `strongest` at most.
    fn go_on(
        &self,
        sqlite: &mut SqliteConnection,
        consumer: &Consumer,
        key: &[u8],
        strongest: ParkedBy,
    ) -> QueryResult<bool> {
        let of_key = || (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        let reason = Sql::<_, Text>::new(&self.reason, of_key()).get_result::<String>(sqlite).optional()?;
        let by = reason.and_then(|reason| ParkedBy::from_stored(&reason));
        if by.is_none_or(|by| by == ParkedBy::Held || by > strongest) {
            return Ok(false);
        }
        Sql::<_>::new(&self.weaken, of_key()).execute(sqlite)?;
        self.common.unpark(sqlite, consumer, key)?;
        Ok(true)
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
        let unpark = move |sqlite: &mut SqliteConnection| {
            statements.go_on(sqlite, &consumer, key.as_bytes(), ParkedBy::Operator)
        };
        self.writer.write("unpark a key", unpark).await
    }
}
