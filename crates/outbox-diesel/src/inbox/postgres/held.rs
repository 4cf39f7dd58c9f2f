//! The queue of held messages.

use std::time::Duration;

use async_trait::async_trait;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Untyped, Uuid as SqlUuid};
use outbox_core::inbox::{
    ClaimToken, Consumer, HeldBacklog, HeldBurial, HeldFailure, HeldMessage, HeldQueue, OrderingKey,
};
use outbox_core::ports::{Fenced, StorageError};

use super::row::{COLUMNS, MessageRow};
use super::session::{BEGIN, Session};
use super::sql::{
    BACKLOG, BURY, CLAIM, DUE, EACH_KEY, FAIL, FIND_MINE, FREE, PARK, RELEASE, REMOVE_HELD, SET_MESSAGE, UNHELD,
};
use crate::inbox::InboxTables;
use crate::inbox::shared::{micros_of, shortened};
use crate::postgres::pool::Pool;
use crate::sql::{Sql, bind};

pub(super) struct PostgresHeldQueue {
    pool: Pool,
    claim_due: String,
    claim_each_key: String,
    fail: String,
    find: String,
    set_message: String,
    park: String,
    bury: String,
    release: String,
    unheld: String,
    unpark: Unpark,
    backlog: String,
}

/// Removes a parked key of which nothing is held.
#[derive(Clone)]
pub(super) struct Unpark {
    pub(super) lock: String,
    pub(super) remove: String,
}

impl Unpark {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { lock: tables.render(super::sql::LOCK_KEY), remove: tables.render(REMOVE_HELD) }
    }
}

impl PostgresHeldQueue {
    pub(super) fn new(pool: Pool, tables: &InboxTables) -> Self {
        let claim = |candidates: &str| {
            let text = CLAIM.replace("{CANDIDATES}", candidates).replace("{FREE}", FREE).replace("{COLUMNS}", COLUMNS);
            tables.render(&text)
        };
        Self {
            claim_due: claim(DUE),
            claim_each_key: claim(EACH_KEY),
            fail: tables.render(FAIL),
            find: tables.render(FIND_MINE),
            set_message: tables.render(SET_MESSAGE),
            park: tables.render(PARK),
            bury: tables.render(BURY),
            release: tables.render(RELEASE),
            unheld: tables.render(UNHELD),
            unpark: Unpark::new(tables),
            backlog: tables.render(BACKLOG),
            pool,
        }
    }

    async fn unpark(&self, consumer: &Consumer, key: &[u8]) -> Result<(), StorageError> {
        const WHAT: &str = "unpark a key";
        let mut session = Session::begin(&self.pool, WHAT, self.pool.timeout(), BEGIN).await?;
        let of_key = || (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        let _: Vec<String> = session.load(WHAT, Sql::<_, Text>::new(&self.unpark.lock, of_key())).await?;
        // a statement of its own: it sees what those have committed whom the lock waited for
        let _: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.unpark.remove, of_key())).await?;
        session.done(WHAT).await
    }
}

#[async_trait]
impl HeldQueue for PostgresHeldQueue {
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError> {
        for text in [&self.claim_due, &self.claim_each_key] {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let (consumer, claim) = (bind::<Text, _>(consumer.as_str()), bind::<SqlUuid, _>(claim.0));
            let binds = (consumer, claim, bind::<BigInt, _>(micros_of(lease)), bind::<BigInt, _>(limit));
            let rows: Vec<MessageRow> =
                self.pool.load("claim held messages", Sql::<_, Untyped>::new(text, binds)).await?;
            if !rows.is_empty() {
                let mut messages: Vec<_> = rows.into_iter().map(|row| row.0).collect();
                messages.sort_by_key(|message| message.seq);
                return Ok(messages);
            }
        }
        Ok(Vec::new())
    }

    async fn fail(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        failure: &HeldFailure,
    ) -> Result<Fenced, StorageError> {
        let binds = (
            bind::<Text, _>(consumer.as_str()),
            bind::<BigInt, _>(failure.seq),
            bind::<SqlUuid, _>(claim.0),
            bind::<Integer, _>(i32::try_from(failure.attempts).unwrap_or(i32::MAX)),
            bind::<BigInt, _>(micros_of(failure.delay)),
            bind::<Text, _>(shortened(&failure.error)),
        );
        let failed: Vec<i32> =
            self.pool.load("mark a failed attempt", Sql::<_, Integer>::new(&self.fail, binds)).await?;
        Ok(if failed.is_empty() { Fenced::Lost } else { Fenced::Done })
    }

    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError> {
        const WHAT: &str = "bury a held message";
        let name = || bind::<Text, _>(consumer.as_str());
        let mut session = Session::begin(&self.pool, WHAT, self.pool.timeout(), BEGIN).await?;
        let binds = (name(), bind::<BigInt, _>(burial.seq), bind::<SqlUuid, _>(claim.0));
        let find = Sql::<_, (Nullable<Text>, Nullable<Text>, Nullable<Binary>)>::new(&self.find, binds);
        let found: Vec<(Option<String>, Option<String>, Option<Vec<u8>>)> = session.load(WHAT, find).await?;
        let Some((source, id, key)) = found.into_iter().next() else {
            session.roll_back().await;
            return Ok(Fenced::Lost);
        };
        if let (Some(source), Some(id)) = (source, id) {
            let binds = (name(), bind::<Text, _>(source), bind::<Text, _>(id), bind::<Text, _>("dead"));
            let _: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.set_message, binds)).await?;
        }
        let parks_key = burial.park_key && key.is_some();
        if let Some(key) = key.filter(|_| parks_key) {
            let binds = (name(), bind::<Binary, _>(key), bind::<Text, _>("dead_letter"));
            let _: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.park, binds)).await?;
        }
        let binds = (
            name(),
            bind::<BigInt, _>(burial.seq),
            bind::<SqlUuid, _>(claim.0),
            bind::<Integer, _>(i32::try_from(burial.attempts).unwrap_or(i32::MAX)),
            bind::<Text, _>(burial.reason.as_str()),
            bind::<Text, _>(shortened(&burial.error)),
            bind::<diesel::sql_types::Bool, _>(parks_key),
        );
        let buried: Vec<i32> = session.load(WHAT, Sql::<_, Integer>::new(&self.bury, binds)).await?;
        if buried.is_empty() {
            session.roll_back().await;
            return Ok(Fenced::Lost);
        }
        session.done(WHAT).await?;
        Ok(Fenced::Done)
    }

    async fn release(&self, consumer: &Consumer, claim: ClaimToken, keys: &[OrderingKey]) -> Result<(), StorageError> {
        const WHAT: &str = "release a claim";
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<SqlUuid, _>(claim.0));
        let _: Vec<i32> = self.pool.load(WHAT, Sql::<_, Integer>::new(&self.release, binds)).await?;
        if keys.is_empty() {
            return Ok(());
        }
        // most keys have followers: those need no lock
        let keys: Vec<&[u8]> = keys.iter().map(OrderingKey::as_bytes).collect();
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<Array<Binary>, _>(keys));
        let mut unheld: Vec<Vec<u8>> = self.pool.load(WHAT, Sql::<_, Binary>::new(&self.unheld, binds)).await?;
        unheld.sort_unstable();
        for key in unheld {
            self.unpark(consumer, &key).await?;
        }
        Ok(())
    }

    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError> {
        let binds = (bind::<Text, _>(consumer.as_str()),);
        let backlog = Sql::<_, (BigInt, BigInt, BigInt, Nullable<BigInt>)>::new(&self.backlog, binds);
        let (held, parked_keys, dead_letters, next_due): (i64, i64, i64, Option<i64>) =
            self.pool.one("count held messages", backlog).await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(HeldBacklog {
            held: count(held),
            parked_keys: count(parked_keys),
            dead_letters: count(dead_letters),
            next_due: next_due.map(|micros| Duration::from_micros(count(micros))),
        })
    }
}
