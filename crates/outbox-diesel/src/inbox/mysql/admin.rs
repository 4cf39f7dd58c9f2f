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
        if let Some(key) = ordering_key(found, 2) {
            // whatever parked the key before
            text.push_str(&self.tables.render(&format!(
                "INSERT INTO {{{{parked_keys}}}} (consumer, ordering_key, reason) VALUES ({name}, {}, 'held') \
                 ON DUPLICATE KEY UPDATE reason = 'held'; ",
                bytes_literal(key.as_bytes())
            )));
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
        let parks = ordering_key(found, 2).filter(|_| number(found, 3) == Some(1));
        if let Some(identity) = identity(found, 0) {
            // from now on it ages
            let settle = set_message(&self.tables, &name, &identity, Status::Processed);
            work.run(settle.trim_end_matches("; ")).await?;
        }
        let remove = self.tables.render(&format!("DELETE d FROM {{{{dead_letters}}}} AS d WHERE {letter}"));
        let Some(key) = parks else {
            let sets = work.run(&remove).await?;
            if sets.iter().all(|set| set.matched == 0) {
                work.roll_back().await; // somebody else replayed or discarded it meanwhile
                return Ok(false);
            }
            work.commit().await?;
            return Ok(true);
        };
        // the key before the letter, as everybody does; and then who else parks it
        let (prefix, literal) = (self.tables.prefix(), bytes_literal(key.as_bytes()));
        let others = self.tables.render(&format!(
            "SELECT d.seq FROM {{{{dead_letters}}}} AS d FORCE INDEX ({prefix}dead_letters_parking) WHERE d.consumer = {name} \
             AND d.ordering_key = {literal} AND d.parks_key = 1 AND d.seq <> {seq} LIMIT 1"
        ));
        let sets = work.run(&format!("{}; {others}; {remove}", look_at_key(&self.tables, &name, &key))).await?;
        let [reason, held, others, removed] =
            <[_; 4]>::try_from(sets).map_err(|_| crate::mysql::error::unexpected_reply(WHAT))?;
        let others_park = !others.rows.is_empty();
        if removed.matched == 0 {
            work.roll_back().await; // somebody else replayed or discarded it meanwhile
            return Ok(false);
        }
        let state = KeyState::read(WHAT, &[reason, held])?;
        if others_park {
            work.commit().await?;
        } else {
            self.go_on(work, &name, &key, state, ParkedBy::DeadLetter).await?;
        }
        Ok(true)
    }

    async fn park_once(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        const WHAT: &str = "park a key";
        let name = name_of(consumer);
        // the counts of the server do not tell whether a row was changed
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &look_at_key(&self.tables, &name, key)).await?;
        let before = KeyState::read(WHAT, &sets)?.parked_by;
        let text = park(&self.tables, &name, key, ParkedBy::Operator);
        work.run(text.trim_end_matches("; ")).await?;
        work.commit().await?;
        Ok(before != Some(ParkedBy::Operator))
    }

    async fn unpark_once(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        const WHAT: &str = "unpark a key";
        let name = name_of(consumer);
        let (work, sets) = Work::begin(&self.pool, WHAT, &look_at_key(&self.tables, &name, key)).await?;
        let state = KeyState::read(WHAT, &sets)?;
        self.go_on(work, &name, key, state, ParkedBy::Operator).await
    }

    /// Lets a key go on that was parked for `strongest` at most, and commits. Its row is locked.
    async fn go_on(
        &self,
        mut work: Work,
        name: &str,
        key: &OrderingKey,
        state: KeyState,
        strongest: ParkedBy,
    ) -> Result<bool, StorageError> {
        let KeyState { parked_by, is_held } = state;
        if parked_by.is_none_or(|by| by == ParkedBy::Held || by > strongest) {
            work.commit().await?;
            return Ok(false);
        }
        let text = if is_held {
            // from here on it is parked for what is held of it
            let key = bytes_literal(key.as_bytes());
            self.tables.render(&format!(
                "UPDATE {{{{parked_keys}}}} SET reason = 'held' WHERE consumer = {name} AND ordering_key = {key}"
            ))
        } else {
            remove_key(&self.tables, name, key)
        };
        work.run(&text).await?;
        work.commit().await?;
        Ok(true)
    }

    fn find(&self, letter: &str) -> String {
        self.tables.render(&format!(
            "SELECT d.source, d.id, d.ordering_key, d.parks_key FROM {{{{dead_letters}}}} AS d FORCE INDEX (PRIMARY) WHERE {letter}"
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
