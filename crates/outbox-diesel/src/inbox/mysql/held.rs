//! The queue of held messages.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use outbox_core::inbox::{
    ClaimToken, Consumer, HeldBacklog, HeldBurial, HeldFailure, HeldMessage, HeldQueue, OrderingKey, ParkedBy,
};
use outbox_core::ports::{Fenced, StorageError};

use super::claiming::Claiming;
use super::json::{KEYS, NUMBERS, keys, numbers, table};
use super::row::{identity, ordering_key};
use super::work::{Work, repeated};
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, micros_of, shortened};
use crate::mysql::error::unexpected_reply;
use crate::mysql::pool::Pool;
use crate::mysql::row::{big, bytes_literal, id_literal, number, text_literal};
use crate::mysql::session::ResultSet;

pub(super) struct MysqlHeldQueue {
    pool: Pool,
    tables: InboxTables,
}

impl MysqlHeldQueue {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        Self { pool, tables: tables.clone() }
    }

    async fn bury_once(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        burial: &HeldBurial,
    ) -> Result<Fenced, StorageError> {
        const WHAT: &str = "bury a held message";
        let name = name_of(consumer);
        let mine = format!("h.seq = {} AND {}", burial.seq, is_mine(&name, claim));
        let find =
            self.tables.render(&format!("SELECT h.source, h.id, h.ordering_key FROM {{{{held}}}} AS h WHERE {mine}"));
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &find).await?;
        let Some(found) = sets.first().and_then(|set| set.rows.first()) else {
            work.roll_back().await;
            return Ok(Fenced::Lost);
        };
        let mut text = String::new();
        if let Some(identity) = identity(found, 0) {
            text.push_str(&set_message(&self.tables, &name, &identity, Status::Dead));
        }
        let parks = ordering_key(found, 2).filter(|_| burial.park_key);
        if let Some(key) = &parks {
            text.push_str(&park(&self.tables, &name, key, ParkedBy::DeadLetter));
        }
        text.push_str(&self.tables.render(&format!(
            "INSERT INTO {{{{dead_letters}}}} ({MOVED}, attempts, reason, error, parks_key) SELECT {MOVED}, {}, {}, {}, {} \
             FROM {{{{held}}}} AS h WHERE {mine}; DELETE h FROM {{{{held}}}} AS h WHERE {mine}",
            i32::try_from(burial.attempts).unwrap_or(i32::MAX),
            text_literal(burial.reason.as_str()),
            text_literal(&shortened(&burial.error)),
            i32::from(parks.is_some()),
        )));
        let sets = work.run(&text).await?;
        if sets.last().is_none_or(|set| set.matched == 0) {
            work.roll_back().await;
            return Ok(Fenced::Lost);
        }
        work.commit().await?;
        Ok(Fenced::Done)
    }

    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<(), StorageError> {
        const WHAT: &str = "unpark a key";
        let name = name_of(consumer);
        let (mut work, sets) = Work::begin(&self.pool, WHAT, &look_at_key(&self.tables, &name, key)).await?;
        let [reason, held] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        match KeyState::read([reason, held]) {
            KeyState { parked_by: Some(ParkedBy::Held), is_held: false } => {
                work.run(&remove_key(&self.tables, &name, key)).await?;
                work.commit().await
            }
            KeyState { .. } => {
                work.roll_back().await;
                Ok(())
            }
        }
    }
}

/// Columns that a held message and a dead letter have in common.
pub(super) const MOVED: &str = "consumer, seq, source, id, ordering_key, stream, `partition`, position, record_key, headers, payload, \
    sent_at, redelivered";

/// A consumer's name as it stands in a statement.
pub(super) fn name_of(consumer: &Consumer) -> String {
    bytes_literal(consumer.as_str().as_bytes())
}

/// Whether the held message `h` is this claim's.
fn is_mine(name: &str, claim: ClaimToken) -> String {
    format!("h.consumer = {name} AND h.status = 'processing' AND h.claim = {}", id_literal(claim.0))
}

/// Sets a dedup row, whatever became of it, and so locks it.
pub(super) fn set_message(
    tables: &InboxTables,
    name: &str,
    identity: &outbox_core::inbox::Identity,
    status: Status,
) -> String {
    let status = status.as_str();
    tables.render(&format!(
        "INSERT INTO {{{{messages}}}} (consumer, source, id, status) VALUES ({name}, {}, {}, '{status}') \
         ON DUPLICATE KEY UPDATE status = '{status}', processed_at = utc_timestamp(6); ",
        bytes_literal(identity.source().as_bytes()),
        bytes_literal(identity.id().as_bytes()),
    ))
}

/// Parks a key, unless a stronger reason has parked it. Its row is locked in any case.
pub(super) fn park(tables: &InboxTables, name: &str, key: &OrderingKey, by: ParkedBy) -> String {
    let weaker = match by {
        ParkedBy::Held => "''",
        ParkedBy::DeadLetter => "'held'",
        ParkedBy::Operator => "'held', 'dead_letter'",
    };
    let by = by.as_str();
    tables.render(&format!(
        "INSERT INTO {{{{parked_keys}}}} (consumer, ordering_key, reason) VALUES ({name}, {}, '{by}') \
         ON DUPLICATE KEY UPDATE reason = if(reason IN ({weaker}), '{by}', reason); ",
        bytes_literal(key.as_bytes()),
    ))
}

/// Locks the row of a key, and then looks at what is held of it: in a statement of its own, which sees what those have committed whom the
/// lock waited for.
pub(super) fn look_at_key(tables: &InboxTables, name: &str, key: &OrderingKey) -> String {
    let (key, prefix) = (bytes_literal(key.as_bytes()), tables.prefix());
    tables.render(&format!(
        "SELECT reason FROM {{{{parked_keys}}}} FORCE INDEX (PRIMARY) WHERE consumer = {name} AND ordering_key = {key} FOR UPDATE; \
         SELECT seq FROM {{{{held}}}} FORCE INDEX ({prefix}held_key) WHERE consumer = {name} AND ordering_key = {key} LIMIT 1"
    ))
}

/// How a key stands whose row is locked.
pub(super) struct KeyState {
    pub(super) parked_by: Option<ParkedBy>,
    pub(super) is_held: bool,
}

impl KeyState {
    /// From the replies to [`look_at_key`].
    pub(super) fn read([reason, held]: [&ResultSet; 2]) -> Self {
        let reason = reason.rows.first().and_then(|row| crate::mysql::row::lossy_text(row, 0));
        let parked_by = reason.map(|reason| ParkedBy::from_stored(&reason).unwrap_or(ParkedBy::Operator));
        Self { parked_by, is_held: !held.rows.is_empty() }
    }
}

/// Removes the row of a key, which is locked.
pub(super) fn remove_key(tables: &InboxTables, name: &str, key: &OrderingKey) -> String {
    let key = bytes_literal(key.as_bytes());
    tables.render(&format!("DELETE FROM {{{{parked_keys}}}} WHERE consumer = {name} AND ordering_key = {key}"))
}

#[async_trait]
impl HeldQueue for MysqlHeldQueue {
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError> {
        let claiming = Claiming::new(&self.pool, &self.tables, consumer, claim, lease, limit);
        repeated(|| claiming.run().boxed()).await
    }

    async fn fail(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        failure: &HeldFailure,
    ) -> Result<Fenced, StorageError> {
        let text = self.tables.render(&format!(
            "UPDATE {{{{held}}}} AS h FORCE INDEX (PRIMARY) SET h.status = 'failed', h.attempts = {}, h.error = {}, h.claim = NULL, \
             h.claimed_until = NULL, h.due_at = utc_timestamp(6) + INTERVAL {} MICROSECOND WHERE h.seq = {} AND {}",
            i32::try_from(failure.attempts).unwrap_or(i32::MAX),
            text_literal(&shortened(&failure.error)),
            micros_of(failure.delay),
            failure.seq,
            is_mine(&name_of(consumer), claim),
        ));
        let sets = self.pool.run_repeated("mark a failed attempt", &text).await?;
        Ok(if sets.iter().any(|set| set.matched > 0) { Fenced::Done } else { Fenced::Lost })
    }

    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError> {
        repeated(|| self.bury_once(consumer, claim, burial).boxed()).await
    }

    async fn release(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        released: &[OrderingKey],
    ) -> Result<(), StorageError> {
        const WHAT: &str = "release a claim";
        let (name, prefix, token) = (name_of(consumer), self.tables.prefix(), id_literal(claim.0));
        let mut text = format!(
            "SELECT h.seq FROM {{{{held}}}} AS h FORCE INDEX ({prefix}held_claimed) WHERE h.consumer = {name} \
             AND h.claimed_until IS NOT NULL AND h.claim = {token}"
        );
        if !released.is_empty() {
            // most keys have followers: those need no lock
            let looked_up = table(KEYS, &keys(released.iter().map(|key| (key, ""))));
            text.push_str(&format!(
                "; SELECT p.ordering_key FROM {looked_up} STRAIGHT_JOIN {{{{parked_keys}}}} AS p FORCE INDEX (PRIMARY) \
                 ON p.consumer = {name} AND p.ordering_key = unhex(v.ordering_key) WHERE p.reason = 'held' AND NOT EXISTS \
                 (SELECT 1 FROM {{{{held}}}} AS h FORCE INDEX ({prefix}held_key) WHERE h.consumer = {name} \
                 AND h.ordering_key = p.ordering_key)"
            ));
        }
        let sets = self.pool.run(WHAT, &self.tables.render(&text)).await?;
        let mut mine: Vec<i64> = sets.first().iter().flat_map(|set| &set.rows).map(|row| big(row, 0)).collect();
        if !mine.is_empty() {
            mine.sort_unstable();
            let text = self.tables.render(&format!(
                "UPDATE {} STRAIGHT_JOIN {{{{held}}}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq SET h.claim = NULL, \
                 h.claimed_until = NULL, h.status = if(h.attempts > 0, 'failed', 'waiting') WHERE h.consumer = {name} \
                 AND h.claim = {token}",
                table(NUMBERS, &numbers(&mine)),
            ));
            self.pool.run_repeated(WHAT, &text).await?;
        }
        let unheld = sets.get(1).map_or(&[][..], |set| &set.rows[..]);
        let mut unheld: Vec<OrderingKey> = unheld.iter().filter_map(|row| ordering_key(row, 0)).collect();
        unheld.sort_unstable();
        for key in unheld {
            repeated(|| self.unpark(consumer, &key).boxed()).await?;
        }
        Ok(())
    }

    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError> {
        const WHAT: &str = "count held messages";
        let (name, prefix) = (name_of(consumer), self.tables.prefix());
        let free_at = "greatest(h.due_at, coalesce(h.claimed_until, h.due_at))";
        let text = self.tables.render(&format!(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM {{{{held}}}} FORCE INDEX ({prefix}held_due) WHERE consumer = {name} LIMIT 10000) AS h), \
             (SELECT count(*) FROM (SELECT 1 FROM {{{{parked_keys}}}} FORCE INDEX (PRIMARY) WHERE consumer = {name} LIMIT 10000) AS p), \
             (SELECT count(*) FROM (SELECT 1 FROM {{{{dead_letters}}}} FORCE INDEX (PRIMARY) WHERE consumer = {name} LIMIT 10000) AS d), \
             (SELECT greatest(0, timestampdiff(MICROSECOND, utc_timestamp(6), min(next.free_at))) FROM (\
             SELECT (SELECT {free_at} FROM {{{{held}}}} AS h FORCE INDEX ({prefix}held_key) WHERE h.consumer = {name} \
             AND h.ordering_key = p.ordering_key ORDER BY h.seq LIMIT 1) AS free_at FROM (SELECT ordering_key FROM {{{{parked_keys}}}} \
             FORCE INDEX (PRIMARY) WHERE consumer = {name} AND reason = 'held' LIMIT 10000) AS p \
             UNION ALL (SELECT {free_at} FROM {{{{held}}}} AS h FORCE INDEX ({prefix}held_keyless) WHERE h.consumer = {name} \
             AND h.ordering_key IS NULL ORDER BY h.due_at LIMIT 1000)) AS next)"
        ));
        let sets = self.pool.run(WHAT, &text).await?;
        let row = sets.first().and_then(|set| set.rows.first()).ok_or_else(|| unexpected_reply(WHAT))?;
        let count = |index: usize| u64::try_from(big(row, index)).unwrap_or(0);
        Ok(HeldBacklog {
            held: count(0),
            parked_keys: count(1),
            dead_letters: count(2),
            next_due: number(row, 3).map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
        })
    }
}
