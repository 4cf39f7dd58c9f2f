//! Dead letters and parked keys, for operators.

use async_trait::async_trait;
use futures_util::FutureExt;
use outbox_core::inbox::{Consumer, InboxAdmin, InboxDeadLetter, InboxParkedKey, OrderingKey, ParkedBy};
use outbox_core::ports::StorageError;
use time::OffsetDateTime;

use super::held::{KeyState, MOVED, look_at_key, name_of, park, remove_key, set_message};
use super::row::{columns, dead_letter, identity, ordering_key};
use super::work::{Work, repeated};
use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::mysql::error::unexpected_reply;
use crate::mysql::pool::Pool;
use crate::mysql::row::{bytes_literal, lossy_text, micros_of, number, time_of};

pub(super) struct MysqlInboxAdmin {
    pool: Pool,
    tables: InboxTables,
}

impl MysqlInboxAdmin {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        Self { pool, tables: tables.clone() }
    }

    async fn replay_once(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "replay a dead letter";
        let name = name_of(consumer);
        let letter = format!("d.consumer = {name} AND d.seq = {seq}");
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &self.find(&letter)).await?;
        let Some(found) = sets.first().and_then(|set| set.rows.first()) else {
            work.roll_back().await;
            return Ok(false);
        };
        let mut text = String::new();
        if let Some(identity) = identity(found, 0) {
            text.push_str(&set_message(&self.tables, &name, &identity, Status::Held));
        }
        let key = ordering_key(found, 2);
        if let Some(key) = &key {
            text.push_str(&park(&self.tables, &name, key, ParkedBy::Held));
            text.push_str(&look_at_key(&self.tables, &name, key));
            text.push_str("; ");
            text.push_str(&self.other_letters(&name, key, seq));
            text.push_str("; ");
        }
        text.push_str(&self.tables.render(&format!(
            "INSERT INTO {{{{held}}}} ({MOVED}, status) SELECT {MOVED}, 'waiting' FROM {{{{dead_letters}}}} AS d WHERE {letter}; \
             DELETE d FROM {{{{dead_letters}}}} AS d WHERE {letter}"
        )));
        let sets = work.run(&text).await?;
        if sets.last().is_none_or(|set| set.matched == 0) {
            work.roll_back().await; // somebody else replayed or discarded it meanwhile
            return Ok(false);
        }
        if let Some(key) = &key {
            let [.., reason, held, others, _, _] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
            if KeyState::read([reason, held]).parked_by == Some(ParkedBy::DeadLetter) {
                let rest = if others.rows.is_empty() { ParkedBy::Held } else { ParkedBy::DeadLetter };
                work.run(&self.set_reason(&name, key, rest)).await?;
            }
        }
        work.commit().await?;
        Ok(true)
    }

    async fn discard_once(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "discard a dead letter";
        let name = name_of(consumer);
        let letter = format!("d.consumer = {name} AND d.seq = {seq}");
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &self.find(&letter)).await?;
        let Some(found) = sets.first().and_then(|set| set.rows.first()) else {
            work.roll_back().await;
            return Ok(false);
        };
        let key = ordering_key(found, 2);
        if let Some(identity) = identity(found, 0) {
            // from now on it ages
            let settle = set_message(&self.tables, &name, &identity, Status::Processed);
            work.run(settle.trim_end_matches("; ")).await?;
        }
        let remove = self.tables.render(&format!("DELETE d FROM {{{{dead_letters}}}} AS d WHERE {letter}"));
        let Some(key) = key else {
            let sets = work.run(&remove).await?;
            if sets.iter().all(|set| set.matched == 0) {
                work.roll_back().await; // somebody else replayed or discarded it meanwhile
                return Ok(false);
            }
            work.commit().await?;
            return Ok(true);
        };
        self.change(work, WHAT, &name, &key, seq, &remove).await
    }

    async fn park_once(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        const WHAT: &str = "park a key";
        let name = name_of(consumer);
        // the counts of the server do not tell whether a row was changed
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &look_at_key(&self.tables, &name, key)).await?;
        let [reason, held] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let before = KeyState::read([reason, held]).parked_by;
        let text = park(&self.tables, &name, key, ParkedBy::Operator);
        work.run(text.trim_end_matches("; ")).await?;
        work.commit().await?;
        Ok(before != Some(ParkedBy::Operator))
    }

    async fn pass_once(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "pass a dead letter";
        let name = name_of(consumer);
        let letter = format!("d.consumer = {name} AND d.seq = {seq}");
        let (work, sets) = Work::begin(&self.pool, WHAT, &self.find(&letter)).await?;
        let Some(key) = sets.first().and_then(|set| set.rows.first()).and_then(|found| ordering_key(found, 2)) else {
            work.roll_back().await;
            return Ok(false);
        };
        let pass = self.tables.render(&format!(
            "UPDATE {{{{dead_letters}}}} AS d FORCE INDEX (PRIMARY) SET d.parks_key = 0 WHERE {letter} AND d.parks_key = 1"
        ));
        self.change(work, WHAT, &name, &key, seq, &pass).await
    }

    /// Locks the key of a letter, looks who else parks it, and then changes the letter, as everybody does; commits. `false`: there is nothing to
    /// change (any more).
    async fn change(
        &self,
        mut work: Work,
        what: &'static str,
        name: &str,
        key: &OrderingKey,
        seq: i64,
        change: &str,
    ) -> Result<bool, StorageError> {
        let others = self.other_letters(name, key, seq);
        let sets = work.run(&format!("{}; {others}; {change}", look_at_key(&self.tables, name, key))).await?;
        let [reason, held, others, changed] = &sets[..] else { return Err(unexpected_reply(what)) };
        if changed.matched == 0 {
            work.roll_back().await;
            return Ok(false);
        }
        let state = KeyState::read([reason, held]);
        if state.parked_by == Some(ParkedBy::DeadLetter) && others.rows.is_empty() {
            work.run(&self.let_go(name, key, &state)).await?;
        }
        work.commit().await?;
        Ok(true)
    }

    async fn unpark_once(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        const WHAT: &str = "unpark a key";
        const NONE: i64 = 0; // numbers of letters begin with 1
        let name = name_of(consumer);
        let looks = format!("{}; {}", look_at_key(&self.tables, &name, key), self.other_letters(&name, key, NONE));
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &looks).await?;
        let [reason, held, letters] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let state = KeyState::read([reason, held]);
        if state.parked_by != Some(ParkedBy::Operator) {
            work.roll_back().await;
            return Ok(false);
        }
        let text = if letters.rows.is_empty() {
            self.let_go(&name, key, &state)
        } else {
            self.set_reason(&name, key, ParkedBy::DeadLetter)
        };
        work.run(&text).await?;
        work.commit().await?;
        Ok(true)
    }

    /// Another dead letter that parks the key.
    fn other_letters(&self, name: &str, key: &OrderingKey, seq: i64) -> String {
        let (prefix, literal) = (self.tables.prefix(), bytes_literal(key.as_bytes()));
        self.tables.render(&format!(
            "SELECT d.seq FROM {{{{dead_letters}}}} AS d FORCE INDEX ({prefix}dead_letters_parking) WHERE d.consumer = {name} \
             AND d.ordering_key = {literal} AND d.parks_key = 1 AND d.seq <> {seq} LIMIT 1"
        ))
    }

    /// Only what is held of the key, which is locked, parks it from here on.
    fn let_go(&self, name: &str, key: &OrderingKey, state: &KeyState) -> String {
        if state.is_held { self.set_reason(name, key, ParkedBy::Held) } else { remove_key(&self.tables, name, key) }
    }

    fn set_reason(&self, name: &str, key: &OrderingKey, by: ParkedBy) -> String {
        let (key, by) = (bytes_literal(key.as_bytes()), by.as_str());
        self.tables.render(&format!(
            "UPDATE {{{{parked_keys}}}} SET reason = '{by}' WHERE consumer = {name} AND ordering_key = {key}"
        ))
    }

    fn find(&self, letter: &str) -> String {
        self.tables.render(&format!(
            "SELECT d.source, d.id, d.ordering_key FROM {{{{dead_letters}}}} AS d FORCE INDEX (PRIMARY) WHERE {letter}"
        ))
    }
}

#[async_trait]
impl InboxAdmin for MysqlInboxAdmin {
    async fn dead_letters(
        &self,
        consumer: &Consumer,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<InboxDeadLetter>, StorageError> {
        let text = self.tables.render(&format!(
            "SELECT {}, h.reason, h.error, {} FROM {{{{dead_letters}}}} AS h FORCE INDEX (PRIMARY) WHERE h.consumer = {} \
             AND h.seq > {after_seq} ORDER BY h.seq LIMIT {limit}",
            columns(),
            micros_of("h.died_at"),
            name_of(consumer),
        ));
        let sets = self.pool.run("list dead letters", &text).await?;
        Ok(sets.into_iter().flat_map(|set| set.rows).map(dead_letter).collect())
    }

    async fn replay(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        repeated(|| self.replay_once(consumer, seq).boxed()).await
    }

    async fn discard(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        repeated(|| self.discard_once(consumer, seq).boxed()).await
    }

    async fn pass(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        repeated(|| self.pass_once(consumer, seq).boxed()).await
    }

    async fn parked_keys(
        &self,
        consumer: &Consumer,
        after: Option<&OrderingKey>,
        limit: usize,
    ) -> Result<Vec<InboxParkedKey>, StorageError> {
        let text = self.tables.render(&format!(
            "SELECT ordering_key, reason, {} FROM {{{{parked_keys}}}} FORCE INDEX (PRIMARY) WHERE consumer = {} \
             AND ordering_key > {} ORDER BY ordering_key LIMIT {limit}",
            micros_of("parked_at"),
            name_of(consumer),
            bytes_literal(after.map_or(&b""[..], OrderingKey::as_bytes)),
        ));
        let sets = self.pool.run("list parked keys", &text).await?;
        let key = |row: &mysql_async::Row| {
            let by = lossy_text(row, 1).and_then(|reason| ParkedBy::from_stored(&reason));
            Some(InboxParkedKey {
                key: ordering_key(row, 0)?,
                by: by.unwrap_or(ParkedBy::Operator),
                parked_at: number(row, 2).and_then(time_of).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            })
        };
        Ok(sets.iter().flat_map(|set| &set.rows).filter_map(key).collect())
    }

    async fn park(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        repeated(|| self.park_once(consumer, key).boxed()).await
    }

    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        repeated(|| self.unpark_once(consumer, key).boxed()).await
    }
}
