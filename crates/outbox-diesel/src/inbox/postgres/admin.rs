//! Dead letters and parked keys, for operators.

use async_trait::async_trait;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text, Untyped};
use outbox_core::inbox::{Consumer, InboxAdmin, InboxDeadLetter, InboxParkedKey, OrderingKey, ParkedBy};
use outbox_core::ports::StorageError;
use time::OffsetDateTime;

use super::held::Unpark;
use super::row::{COLUMNS, LetterRow};
use super::session::{BEGIN, Session};
use super::sql::{PARK, SET_MESSAGE};
use crate::inbox::InboxTables;
use crate::inbox::shared::unix_time;
use crate::postgres::pool::Pool;
use crate::sql::{Sql, bind};

pub(super) struct PostgresInboxAdmin {
    pool: Pool,
    dead_letters: String,
    find: String,
    set_message: String,
    hold_key: String,
    replay: String,
    discard: String,
    parked_keys: String,
    park: String,
    unpark: Unpark,
    pass: String,
    settle: String,
}

impl PostgresInboxAdmin {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        Self {
            pool,
            dead_letters: tables.render(&DEAD_LETTERS.replace("{COLUMNS}", COLUMNS)),
            find: tables.render(FIND),
            set_message: tables.render(SET_MESSAGE),
            hold_key: tables.render(HOLD_KEY),
            replay: tables.render(REPLAY),
            discard: tables.render(DISCARD),
            parked_keys: tables.render(PARKED_KEYS),
            park: tables.render(PARK),
            unpark: Unpark::new(tables),
            pass: tables.render(PASS),
            settle: tables.render(SETTLE),
        }
    }

    /// Locks a key; why it is parked.
    async fn lock(
        &self,
        session: &mut Session,
        what: &str,
        consumer: &Consumer,
        key: &[u8],
    ) -> Result<Option<ParkedBy>, StorageError> {
        let of_key = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        let locked: Vec<String> = session.load(what, Sql::<_, Text>::new(&self.unpark.lock, of_key)).await?;
        Ok(locked.first().map(|reason| ParkedBy::from_stored(reason).unwrap_or(ParkedBy::Operator)))
    }

    /// Parks a key, which is locked, for what is left of its reasons. Whoever holds messages of it, or buries one, has its row locked: the looks at
    /// those come after the lock, in statements of their own.
    async fn settle(
        &self,
        session: &mut Session,
        what: &str,
        consumer: &Consumer,
        key: &[u8],
    ) -> Result<(), StorageError> {
        let of_key = || (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        let _: Vec<i32> = session.load(what, Sql::<_, Integer>::new(&self.settle, of_key())).await?;
        let _: Vec<i32> = session.load(what, Sql::<_, Integer>::new(&self.unpark.remove, of_key())).await?;
        Ok(())
    }

    /// Locks the key of a letter and then changes the letter, as everybody does, and commits. `false`: there is nothing to change (any more).
    async fn change(
        &self,
        mut session: Session,
        what: &str,
        statement: &str,
        consumer: &Consumer,
        seq: i64,
        key: Option<Vec<u8>>,
    ) -> Result<bool, StorageError> {
        let by = match &key {
            Some(key) => self.lock(&mut session, what, consumer, key).await?,
            None => None,
        };
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<BigInt, _>(seq));
        let changed: Vec<i32> = session.load(what, Sql::<_, Integer>::new(statement, binds)).await?;
        if changed.is_empty() {
            session.roll_back().await;
            return Ok(false);
        }
        if let Some(key) = key.filter(|_| by == Some(ParkedBy::DeadLetter)) {
            self.settle(&mut session, what, consumer, &key).await?;
        }
        session.done(what).await?;
        Ok(true)
    }

    async fn begin(&self, what: &str) -> Result<Session, StorageError> {
        Session::begin(&self.pool, what, self.pool.timeout(), BEGIN).await
    }
}

const DEAD_LETTERS: &str = "SELECT {COLUMNS}, h.reason, h.error, h.died_at FROM {{dead_letters}} AS h \
    WHERE h.consumer = $1 AND h.seq > $2 ORDER BY h.seq LIMIT $3";

const FIND: &str = "SELECT source, id, ordering_key FROM {{dead_letters}} WHERE consumer = $1 AND seq = $2";

/// Source, id, ordering key.
type Found = (Nullable<Text>, Nullable<Text>, Nullable<Binary>);

/// Parks the key unless it is parked, and locks it in any case.
const HOLD_KEY: &str = "INSERT INTO {{parked_keys}} AS known (consumer, ordering_key, reason) VALUES ($1, $2, 'held') \
    ON CONFLICT (consumer, ordering_key) DO UPDATE SET reason = known.reason RETURNING reason";

const REPLAY: &str = "WITH d AS (DELETE FROM {{dead_letters}} WHERE consumer = $1 AND seq = $2 RETURNING *) \
    INSERT INTO {{held}} (consumer, seq, source, id, ordering_key, stream, partition, position, record_key, headers, payload, sent_at, \
    redelivered, status) SELECT d.consumer, d.seq, d.source, d.id, d.ordering_key, d.stream, d.partition, d.position, d.record_key, \
    d.headers, d.payload, d.sent_at, d.redelivered, 'waiting' FROM d RETURNING 1";

const DISCARD: &str = "DELETE FROM {{dead_letters}} WHERE consumer = $1 AND seq = $2 RETURNING 1";

const PARKED_KEYS: &str = "SELECT ordering_key, reason, (extract(epoch FROM parked_at) * 1000000)::bigint FROM {{parked_keys}} \
    WHERE consumer = $1 AND ordering_key > $2 ORDER BY ordering_key LIMIT $3";

const PASS: &str =
    "UPDATE {{dead_letters}} SET parks_key = false WHERE consumer = $1 AND seq = $2 AND parks_key RETURNING 1";

/// From here on the key is parked for its dead letters, or else for what is held of it.
const SETTLE: &str = "UPDATE {{parked_keys}} AS p SET reason = CASE WHEN EXISTS (SELECT FROM {{dead_letters}} AS d \
    WHERE d.consumer = $1 AND d.ordering_key = $2 AND d.parks_key) THEN 'dead_letter' ELSE 'held' END \
    WHERE p.consumer = $1 AND p.ordering_key = $2 RETURNING 1";

#[async_trait]
impl InboxAdmin for PostgresInboxAdmin {
    async fn dead_letters(
        &self,
        consumer: &Consumer,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<InboxDeadLetter>, StorageError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let name = bind::<Text, _>(consumer.as_str());
        let binds = (name, bind::<BigInt, _>(after_seq), bind::<BigInt, _>(limit));
        let rows: Vec<LetterRow> =
            self.pool.load("list dead letters", Sql::<_, Untyped>::new(&self.dead_letters, binds)).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn replay(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "replay a dead letter";
        let name = || bind::<Text, _>(consumer.as_str());
        let mut session = self.begin(WHAT).await?;
        let find = Sql::<_, Found>::new(&self.find, (name(), bind::<BigInt, _>(seq)));
        let found: Vec<(Option<String>, Option<String>, Option<Vec<u8>>)> = session.load(WHAT, find).await?;
        let Some((source, id, key)) = found.into_iter().next() else {
            session.roll_back().await;
            return Ok(false);
        };
        if let (Some(source), Some(id)) = (source, id) {
            let binds = (name(), bind::<Text, _>(source), bind::<Text, _>(id), bind::<Text, _>("held"));
            let _: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.set_message, binds)).await?;
        }
        let mut by = None;
        if let Some(key) = &key {
            let binds = (name(), bind::<Binary, _>(key.as_slice()));
            let parked: Vec<String> = session.load(WHAT, Sql::<_, Text>::new(&self.hold_key, binds)).await?;
            by = parked.first().and_then(|reason| ParkedBy::from_stored(reason));
        }
        let binds = (name(), bind::<BigInt, _>(seq));
        let replayed: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.replay, binds)).await?;
        if replayed.is_empty() {
            session.roll_back().await; // somebody else replayed or discarded it meanwhile
            return Ok(false);
        }
        if let Some(key) = key.filter(|_| by == Some(ParkedBy::DeadLetter)) {
            self.settle(&mut session, WHAT, consumer, &key).await?;
        }
        session.done(WHAT).await?;
        Ok(true)
    }

    async fn discard(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "discard a dead letter";
        let name = || bind::<Text, _>(consumer.as_str());
        let mut session = self.begin(WHAT).await?;
        let find = Sql::<_, Found>::new(&self.find, (name(), bind::<BigInt, _>(seq)));
        let found: Vec<(Option<String>, Option<String>, Option<Vec<u8>>)> = session.load(WHAT, find).await?;
        let Some((source, id, key)) = found.into_iter().next() else {
            session.roll_back().await;
            return Ok(false);
        };
        if let (Some(source), Some(id)) = (source, id) {
            // from now on it ages
            let binds = (name(), bind::<Text, _>(source), bind::<Text, _>(id), bind::<Text, _>("processed"));
            let _: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.set_message, binds)).await?;
        }
        self.change(session, WHAT, &self.discard, consumer, seq, key).await
    }

    async fn pass(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "pass a dead letter";
        let mut session = self.begin(WHAT).await?;
        let of_letter = (bind::<Text, _>(consumer.as_str()), bind::<BigInt, _>(seq));
        let found: Vec<(Option<String>, Option<String>, Option<Vec<u8>>)> =
            session.load(WHAT, Sql::<_, Found>::new(&self.find, of_letter)).await?;
        let Some((_, _, Some(key))) = found.into_iter().next() else {
            session.roll_back().await;
            return Ok(false);
        };
        self.change(session, WHAT, &self.pass, consumer, seq, Some(key)).await
    }

    async fn parked_keys(
        &self,
        consumer: &Consumer,
        after: Option<&OrderingKey>,
        limit: usize,
    ) -> Result<Vec<InboxParkedKey>, StorageError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let after = after.map_or(&b""[..], OrderingKey::as_bytes);
        let (name, after) = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(after));
        let binds = (name, after, bind::<BigInt, _>(limit));
        let keys = Sql::<_, (Binary, Text, BigInt)>::new(&self.parked_keys, binds);
        let rows: Vec<(Vec<u8>, String, i64)> = self.pool.load("list parked keys", keys).await?;
        let key = |(key, reason, parked_at): (Vec<u8>, String, i64)| InboxParkedKey {
            key: OrderingKey::from_stored(key),
            by: ParkedBy::from_stored(&reason).unwrap_or(ParkedBy::Operator),
            parked_at: unix_time(parked_at).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn park(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        let (name, key) = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key.as_bytes()));
        let binds = (name, key, bind::<Text, _>(ParkedBy::Operator.as_str()));
        let parked: Vec<i32> = self.pool.load("park a key", Sql::<_, Integer>::new(&self.park, binds)).await?;
        Ok(!parked.is_empty())
    }

    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        const WHAT: &str = "unpark a key";
        let mut session = self.begin(WHAT).await?;
        if self.lock(&mut session, WHAT, consumer, key.as_bytes()).await? != Some(ParkedBy::Operator) {
            session.roll_back().await;
            return Ok(false);
        }
        self.settle(&mut session, WHAT, consumer, key.as_bytes()).await?;
        session.done(WHAT).await?;
        Ok(true)
    }
}
