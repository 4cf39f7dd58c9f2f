//! The queue of held messages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{
    ClaimToken, Consumer, HeldBacklog, HeldBurial, HeldFailure, HeldMessage, HeldQueue, OrderingKey, ParkedBy,
};
use outbox_core::ports::{Fenced, StorageError};

use super::claiming::{Claim, Claiming};
use super::sql::{Common, Place, PlaceTypes, SHARED, render};
use super::writer::Writer;
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, micros_of, shortened};
use crate::sql::{Sql, bind};

pub(super) struct SqliteHeldQueue {
    writer: Writer,
    statements: Arc<Statements>,
}

struct Statements {
    common: Common,
    claiming: Claiming,
    fail: String,
    find: String,
    copy: String,
    remove: String,
    release: String,
    backlog: String,
}

impl SqliteHeldQueue {
    pub(super) fn new(writer: Writer, tables: &InboxTables) -> Self {
        let sql = |text: &str| render(tables, &text.replace("{SHARED}", SHARED));
        let statements = Statements {
            common: Common::new(tables),
            claiming: Claiming::new(tables),
            fail: sql(FAIL),
            find: sql(FIND_MINE),
            copy: sql(COPY),
            remove: sql("DELETE FROM {{held}} WHERE seq = ?1"),
            release: sql(RELEASE),
            backlog: sql(BACKLOG),
        };
        Self { writer, statements: Arc::new(statements) }
    }
}

/// `?2` is the message, `?3` the claim, `?4` the attempts, `?5` the delay, `?6` the error.
const FAIL: &str = "UPDATE {{held}} SET status = 'failed', attempts = ?4, error = ?6, claim = NULL, claimed_until = NULL, \
    due_at = {{now}} + ?5 WHERE seq = ?2 AND consumer = ?1 AND status = 'processing' AND claim = ?3";

/// `?2` is the message, `?3` the claim.
const FIND_MINE: &str = "SELECT source, id, ordering_key FROM {{held}} \
    WHERE seq = ?2 AND consumer = ?1 AND status = 'processing' AND claim = ?3";

/// `?1` is the message, `?2` are the attempts, `?3` the reason, `?4` the error, `?5` whether it parks its key.
const COPY: &str = "INSERT INTO {{dead_letters}} (seq, {SHARED}, attempts, reason, error, parks_key, died_at) \
    SELECT seq, {SHARED}, ?2, ?3, ?4, ?5, {{now}} FROM {{held}} WHERE seq = ?1";

/// `?2` is the claim.
const RELEASE: &str = "UPDATE {{held}} SET claim = NULL, claimed_until = NULL, \
    status = CASE WHEN attempts > 0 THEN 'failed' ELSE 'waiting' END WHERE claim = ?2 AND consumer = ?1";

/// Counts, and the microseconds until the first message of some key is due and free.
const BACKLOG: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM {{held}} WHERE consumer = ?1 LIMIT 10000)), \
    (SELECT count(*) FROM (SELECT 1 FROM {{parked_keys}} WHERE consumer = ?1 LIMIT 10000)), \
    (SELECT count(*) FROM (SELECT 1 FROM {{dead_letters}} WHERE consumer = ?1 LIMIT 10000)), \
    (SELECT max(0, min(n.free_at) - {{now}}) FROM ( \
        SELECT max(f.due_at, coalesce(f.claimed_until, f.due_at)) AS free_at FROM (SELECT ordering_key FROM {{parked_keys}} \
        WHERE consumer = ?1 AND reason = 'held' LIMIT 10000) AS p CROSS JOIN {{held}} AS f ON f.seq = (SELECT min(h.seq) \
        FROM {{held}} AS h WHERE h.consumer = ?1 AND h.ordering_key = p.ordering_key) \
        UNION ALL SELECT * FROM (SELECT max(due_at, coalesce(claimed_until, due_at)) FROM {{held}} \
        WHERE consumer = ?1 AND ordering_key IS NULL ORDER BY due_at LIMIT 1000)) AS n)";

#[async_trait]
impl HeldQueue for SqliteHeldQueue {
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError> {
        const WHAT: &str = "claim held messages";
        let work = |statements: Arc<Statements>, consumer: Consumer| {
            move |sqlite: &mut SqliteConnection, takes: bool| -> QueryResult<Option<Vec<HeldMessage>>> {
                let claim = Claim {
                    statements: &statements.claiming,
                    common: &statements.common,
                    consumer: &consumer,
                    token: claim.0.to_string(),
                    lease_micros: micros_of(lease),
                    limit,
                };
                if takes { claim.take(sqlite).map(Some) } else { Ok(claim.may_find(sqlite)?.then(Vec::new)) }
            }
        };
        let look = work(self.statements.clone(), consumer.clone());
        if self.writer.read(WHAT, move |sqlite| look(sqlite, false)).await?.is_none() {
            return Ok(Vec::new());
        }
        let take = work(self.statements.clone(), consumer.clone());
        Ok(self.writer.write(WHAT, move |sqlite| take(sqlite, true)).await?.unwrap_or_default())
    }

    async fn fail(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        failure: &HeldFailure,
    ) -> Result<Fenced, StorageError> {
        let (statements, consumer, failure) = (self.statements.clone(), consumer.clone(), failure.clone());
        let fail = move |sqlite: &mut SqliteConnection| {
            let binds = (
                bind::<Text, _>(consumer.as_str()),
                bind::<BigInt, _>(failure.seq),
                bind::<Text, _>(claim.0.to_string()),
                bind::<Integer, _>(i32::try_from(failure.attempts).unwrap_or(i32::MAX)),
                bind::<BigInt, _>(micros_of(failure.delay)),
                bind::<Text, _>(shortened(&failure.error)),
            );
            Sql::<_>::new(&statements.fail, binds).execute(sqlite)
        };
        let failed = self.writer.write("mark a failed attempt", fail).await?;
        Ok(if failed == 0 { Fenced::Lost } else { Fenced::Done })
    }

    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError> {
        let (statements, consumer, burial) = (self.statements.clone(), consumer.clone(), burial.clone());
        let bury = move |sqlite: &mut SqliteConnection| bury_claimed(sqlite, &statements, &consumer, claim, &burial);
        self.writer.write("bury a held message", bury).await
    }

    async fn release(&self, consumer: &Consumer, claim: ClaimToken, keys: &[OrderingKey]) -> Result<(), StorageError> {
        let (statements, consumer, keys) = (self.statements.clone(), consumer.clone(), keys.to_vec());
        let release = move |sqlite: &mut SqliteConnection| {
            let binds = (bind::<Text, _>(consumer.as_str()), bind::<Text, _>(claim.0.to_string()));
            Sql::<_>::new(&statements.release, binds).execute(sqlite)?;
            keys.iter().try_for_each(|key| statements.common.unpark(sqlite, &consumer, key.as_bytes()))
        };
        self.writer.write("release a claim", release).await
    }

    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError> {
        let (statements, consumer) = (self.statements.clone(), consumer.clone());
        let count = move |sqlite: &mut SqliteConnection| {
            let binds = (bind::<Text, _>(consumer.as_str()),);
            Sql::<_, (BigInt, BigInt, BigInt, Nullable<BigInt>)>::new(&statements.backlog, binds).get_result::<(
                i64,
                i64,
                i64,
                Option<i64>,
            )>(sqlite)
        };
        let (held, parked_keys, dead_letters, next_due) = self.writer.read("count held messages", count).await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(HeldBacklog {
            held: count(held),
            parked_keys: count(parked_keys),
            dead_letters: count(dead_letters),
            next_due: next_due.map(|micros| Duration::from_micros(count(micros))),
        })
    }
}

fn bury_claimed(
    sqlite: &mut SqliteConnection,
    statements: &Statements,
    consumer: &Consumer,
    claim: ClaimToken,
    burial: &HeldBurial,
) -> QueryResult<Fenced> {
    let seq = || bind::<BigInt, _>(burial.seq);
    let mine = (bind::<Text, _>(consumer.as_str()), seq(), bind::<Text, _>(claim.0.to_string()));
    let found = Sql::<_, PlaceTypes>::new(&statements.find, mine).get_result::<Place>(sqlite).optional()?;
    let Some((source, id, key)) = found else { return Ok(Fenced::Lost) };
    if let (Some(source), Some(id)) = (source, id) {
        statements.common.set_message(sqlite, consumer, &source, &id, Status::Dead)?;
    }
    let key = key.filter(|_| burial.park_key);
    if let Some(key) = &key {
        statements.common.park(sqlite, consumer, key, ParkedBy::DeadLetter)?;
    }
    let binds = (
        seq(),
        bind::<Integer, _>(i32::try_from(burial.attempts).unwrap_or(i32::MAX)),
        bind::<Text, _>(burial.reason.as_str()),
        bind::<Text, _>(shortened(&burial.error)),
        bind::<Bool, _>(key.is_some()),
    );
    Sql::<_>::new(&statements.copy, binds).execute(sqlite)?;
    Sql::<_>::new(&statements.remove, (seq(),)).execute(sqlite)?;
    Ok(Fenced::Done)
}
