//! Who works on a held message: runs of messages from the head of their key.

use std::collections::BTreeSet;

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Consumer, HeldMessage};

use super::row::{COLUMNS, MessageRow, MessageTypes};
use super::sql::{Common, render};
use crate::inbox::InboxTables;
use crate::sql::{Sql, bind};

/// Bytes after which a claim takes no more messages.
const CLAIM_BYTES: usize = 64 << 20;

/// Messages that are looked at, those that are due longest first, before the first message of each key is looked for.
const LOOKED_AT: usize = 1_000;

/// Statements of a claim.
pub(super) struct Claiming {
    any: String,
    mine: String,
    due: String,
    each_key: String,
    blocked: String,
    run: String,
    take: String,
    message: String,
}

/// Whether a held message may be taken by a claim.
const FREE: &str = "due_at <= ?2 AND (claim IS NULL OR claimed_until <= ?2)";

impl Claiming {
    pub(super) fn new(tables: &InboxTables) -> Self {
        let sql = |text: &str| render(tables, &text.replace("{FREE}", FREE).replace("{COLUMNS}", COLUMNS));
        Self {
            any: sql("SELECT EXISTS (SELECT 1 FROM {{held}} WHERE consumer = ?1 AND {FREE}) \
                 OR EXISTS (SELECT 1 FROM {{held}} WHERE claim = ?3)"),
            mine: sql("SELECT seq, ordering_key FROM {{held}} WHERE claim = ?2 AND consumer = ?1 ORDER BY seq"),
            due: sql("SELECT seq, ordering_key FROM {{held}} WHERE consumer = ?1 AND {FREE} ORDER BY due_at LIMIT ?3"),
            each_key: sql(
                "SELECT f.seq, p.ordering_key FROM {{parked_keys}} AS p CROSS JOIN {{held}} AS f ON f.seq = \
                 (SELECT min(h.seq) FROM {{held}} AS h WHERE h.consumer = ?1 AND h.ordering_key = p.ordering_key) \
                 WHERE p.consumer = ?1 AND p.reason = 'held' AND f.due_at <= ?2 AND (f.claim IS NULL OR f.claimed_until <= ?2) \
                 UNION ALL SELECT * FROM (SELECT seq, ordering_key FROM {{held}} \
                 WHERE consumer = ?1 AND ordering_key IS NULL AND {FREE} ORDER BY due_at LIMIT ?3) LIMIT ?3",
            ),
            blocked: sql("SELECT EXISTS (SELECT 1 FROM {{parked_keys}} \
                 WHERE consumer = ?1 AND ordering_key = ?4 AND reason <> 'held') \
                 OR EXISTS (SELECT 1 FROM {{held}} WHERE consumer = ?1 AND ordering_key = ?4 \
                 AND claim IS NOT NULL AND claim <> ?3 AND claimed_until > ?2)"),
            run: sql(
                "SELECT seq, claim IS ?3 OR due_at <= ?2 FROM {{held}} WHERE consumer = ?1 AND ordering_key = ?4 \
                 ORDER BY seq LIMIT ?5",
            ),
            take: sql("UPDATE {{held}} SET status = 'processing', claim = ?3, claimed_until = ?4 \
                 WHERE seq = ?2 AND consumer = ?1"),
            message: sql("SELECT {COLUMNS} FROM {{held}} WHERE seq = ?1"),
        }
    }
}

/// One claim of a consumer at a time of the database's clock.
pub(super) struct Claim<'s> {
    pub(super) statements: &'s Claiming,
    pub(super) common: &'s Common,
    pub(super) consumer: &'s Consumer,
    pub(super) token: String,
    pub(super) lease_micros: i64,
    pub(super) limit: usize,
}

/// A message and its key.
type Candidate = (i64, Option<Vec<u8>>);

impl<'s> Claim<'s> {
    /// Whether there may be something to take: no write lock is needed to see that there is not.
    pub(super) fn may_find(&self, sqlite: &mut SqliteConnection) -> QueryResult<bool> {
        let now = self.common.now(sqlite)?;
        let token = bind::<Text, _>(self.token.as_str());
        Sql::<_, Bool>::new(&self.statements.any, (self.name(), bind::<BigInt, _>(now), token)).get_result(sqlite)
    }

    /// Takes messages, within a write transaction.
    pub(super) fn take(&self, sqlite: &mut SqliteConnection) -> QueryResult<Vec<HeldMessage>> {
        let now = self.common.now(sqlite)?;
        let mut taken = Taken::default();
        let mine = (self.name(), bind::<Text, _>(self.token.as_str()));
        let mine = Sql::<_, (BigInt, Nullable<Binary>)>::new(&self.statements.mine, mine).load(sqlite)?;
        self.take_runs(sqlite, now, mine, &mut taken)?;
        let due = self.most_due(sqlite, &self.statements.due, now, LOOKED_AT)?;
        let is_all = due.len() < LOOKED_AT;
        self.take_runs(sqlite, now, due, &mut taken)?;
        if taken.messages.is_empty() && !is_all {
            let heads = self.most_due(sqlite, &self.statements.each_key, now, self.limit)?;
            self.take_runs(sqlite, now, heads, &mut taken)?;
        }
        taken.messages.sort_by_key(|message| message.seq);
        Ok(taken.messages)
    }

    fn most_due(
        &self,
        sqlite: &mut SqliteConnection,
        text: &str,
        now: i64,
        count: usize,
    ) -> QueryResult<Vec<Candidate>> {
        let count = bind::<BigInt, _>(i64::try_from(count).unwrap_or(i64::MAX));
        Sql::<_, (BigInt, Nullable<Binary>)>::new(text, (self.name(), bind::<BigInt, _>(now), count)).load(sqlite)
    }

    fn take_runs(
        &self,
        sqlite: &mut SqliteConnection,
        now: i64,
        candidates: Vec<Candidate>,
        taken: &mut Taken,
    ) -> QueryResult<()> {
        for (seq, key) in candidates {
            if self.is_full(taken) {
                break;
            }
            let run = match key {
                None => vec![seq],
                Some(key) if taken.keys.contains(&key) => continue,
                Some(key) => {
                    let run = self.run(sqlite, now, &key, self.limit - taken.messages.len())?;
                    taken.keys.insert(key);
                    run
                }
            };
            for seq in run {
                if !self.is_full(taken) && taken.seqs.insert(seq) {
                    self.take_one(sqlite, now, seq, taken)?;
                }
            }
        }
        Ok(())
    }

    /// The first messages of a key, as far as they may be taken.
    fn run(&self, sqlite: &mut SqliteConnection, now: i64, key: &[u8], limit: usize) -> QueryResult<Vec<i64>> {
        let of_key = || {
            let (now, token) = (bind::<BigInt, _>(now), bind::<Text, _>(self.token.as_str()));
            (self.name(), now, token, bind::<Binary, _>(key))
        };
        if Sql::<_, Bool>::new(&self.statements.blocked, of_key()).get_result::<bool>(sqlite)? {
            return Ok(Vec::new());
        }
        let (name, now, token, key) = of_key();
        let limit = bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = Sql::<_, (BigInt, Bool)>::new(&self.statements.run, (name, now, token, key, limit))
            .load::<(i64, bool)>(sqlite)?;
        Ok(rows.into_iter().take_while(|(_, may_go)| *may_go).map(|(seq, _)| seq).collect())
    }

    fn take_one(&self, sqlite: &mut SqliteConnection, now: i64, seq: i64, taken: &mut Taken) -> QueryResult<()> {
        let number = || bind::<BigInt, _>(seq);
        let until = bind::<BigInt, _>(now.saturating_add(self.lease_micros));
        let binds = (self.name(), number(), bind::<Text, _>(self.token.as_str()), until);
        Sql::<_>::new(&self.statements.take, binds).execute(sqlite)?;
        let message = Sql::<_, MessageTypes>::new(&self.statements.message, (number(),));
        if let Some(row) = message.get_result::<MessageRow>(sqlite).optional()? {
            let message = HeldMessage::from(row);
            taken.bytes = taken.bytes.saturating_add(message.incoming.size_bytes());
            taken.messages.push(message);
        }
        Ok(())
    }

    fn is_full(&self, taken: &Taken) -> bool {
        taken.messages.len() >= self.limit || taken.bytes >= CLAIM_BYTES
    }

    fn name(&self) -> crate::sql::Bind<Text, &'s str> {
        bind(self.consumer.as_str())
    }
}

/// What a claim has so far.
#[derive(Default)]
struct Taken {
    messages: Vec<HeldMessage>,
    seqs: BTreeSet<i64>,
    keys: BTreeSet<Vec<u8>>,
    bytes: usize,
}
