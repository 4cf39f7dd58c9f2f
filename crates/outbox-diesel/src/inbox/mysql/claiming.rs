//! Who works on a held message.
//!
//! A claim finds what is due, looks at the first messages of those keys, locks what it wants to take, and takes it. Only who has locked the
//! first message of a key takes what follows it; a message that is locked is passed over. Every statement that locks looks its rows up by
//! `seq`.
//!
//! What a claim costs is bounded by its limit and by what is claimed. InnoDB's scans step over what was deleted and not purged yet:
//! while a snapshot is held open for long (a backup), the look for what is due gets slower with each message that was processed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::Row;
use outbox_core::inbox::{ClaimToken, Consumer, HeldMessage, OrderingKey};
use outbox_core::ports::StorageError;

use super::json::{KEYS, NUMBERS, beside_locks, keys, numbers, table};
use super::row::{columns, held_message, ordering_key};
use super::work::Work;
use crate::inbox::InboxTables;
use crate::inbox::shared::micros_of;
use crate::mysql::error::unexpected_reply;
use crate::mysql::pool::Pool;
use crate::mysql::row::{big, bytes_literal, id_literal};

const WHAT: &str = "claim held messages";

/// Messages that are looked at for each that may be taken, and the most.
const LOOK_FACTOR: usize = 4;
const LOOK_LIMIT: usize = 1_000;

/// One claim.
pub(super) struct Claiming<'c> {
    pool: &'c Pool,
    held: String,
    parked: String,
    /// The names of indexes begin with it.
    prefix: &'c str,
    consumer: String,
    token: String,
    lease_micros: i64,
    limit: usize,
}

/// A message at the beginning of its key.
struct Place {
    seq: i64,
    may_go: bool,
}

/// What may be looked at further.
#[derive(Default)]
struct Candidates {
    /// What the claim has already.
    mine: Vec<i64>,
    keys: Vec<OrderingKey>,
    keyless: Vec<i64>,
    /// There may be more that is due.
    is_cut: bool,
}

impl<'c> Claiming<'c> {
    pub(super) fn new(
        pool: &'c Pool,
        tables: &'c InboxTables,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Self {
        Self {
            pool,
            held: tables.render("{{held}}"),
            parked: tables.render("{{parked_keys}}"),
            prefix: tables.prefix(),
            consumer: bytes_literal(consumer.as_str().as_bytes()),
            token: id_literal(claim.0),
            lease_micros: micros_of(lease),
            limit,
        }
    }

    pub(super) async fn run(&self) -> Result<Vec<HeldMessage>, StorageError> {
        if self.limit == 0 {
            return Ok(Vec::new());
        }
        let due = self.due().await?;
        let is_cut = due.is_cut;
        let claimed = self.take(due).await?;
        if !claimed.is_empty() || !is_cut {
            return Ok(claimed);
        }
        // those that are due longest all wait behind others
        self.take(self.each_key().await?).await
    }

    /// What may be taken, unless the claim has it.
    fn is_free(&self) -> String {
        "h.due_at <= utc_timestamp(6) AND (h.claim IS NULL OR h.claimed_until <= utc_timestamp(6))".to_owned()
    }

    /// Keys of which something is in another claim that has not run out.
    fn busy_keys(&self) -> String {
        let Self { held, prefix, consumer, token, .. } = self;
        format!(
            "SELECT DISTINCT h.ordering_key FROM {held} AS h FORCE INDEX ({prefix}held_claimed) WHERE h.consumer = {consumer} \
             AND h.claimed_until > utc_timestamp(6) AND h.claim <> {token} AND h.ordering_key IS NOT NULL"
        )
    }

    /// The claim's own messages and those that are due longest: the usual way, short ranges.
    async fn due(&self) -> Result<Candidates, StorageError> {
        let Self { held, prefix, consumer, token, .. } = self;
        let look = self.look();
        let text = format!(
            "SELECT h.seq, h.ordering_key FROM {held} AS h FORCE INDEX ({prefix}held_claimed) WHERE h.consumer = {consumer} \
             AND h.claimed_until IS NOT NULL AND h.claim = {token}; \
             {}; \
             SELECT h.seq, h.ordering_key FROM {held} AS h FORCE INDEX ({prefix}held_due) WHERE h.consumer = {consumer} AND {} \
             ORDER BY h.due_at LIMIT {look}",
            self.busy_keys(),
            self.is_free(),
        );
        let sets = self.pool.run(WHAT, &text).await?;
        let [mine, busy, due] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let mut found = self.sorted_out(mine.rows.iter().chain(&due.rows), &keys_of(&busy.rows));
        found.mine = mine.rows.iter().map(|row| big(row, 0)).collect();
        found.is_cut = due.rows.len() == look;
        Ok(found)
    }

    /// The keys whose first message is due, and messages without a key.
    async fn each_key(&self) -> Result<Candidates, StorageError> {
        let Self { held, parked, prefix, consumer, limit, .. } = self;
        let free = self.is_free();
        let text = format!(
            "{}; \
             SELECT 0, p.ordering_key FROM {parked} AS p FORCE INDEX (PRIMARY) WHERE p.consumer = {consumer} AND p.reason = 'held' \
             AND (SELECT {free} FROM {held} AS h FORCE INDEX ({prefix}held_key) WHERE h.consumer = {consumer} \
             AND h.ordering_key = p.ordering_key ORDER BY h.seq LIMIT 1) LIMIT {}; \
             SELECT h.seq, NULL FROM {held} AS h FORCE INDEX ({prefix}held_keyless) WHERE h.consumer = {consumer} \
             AND h.ordering_key IS NULL AND {free} ORDER BY h.due_at LIMIT {limit}",
            self.busy_keys(),
            self.look(),
        );
        let sets = self.pool.run(WHAT, &text).await?;
        let [busy, keyed, keyless] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        Ok(self.sorted_out(keyed.rows.iter().chain(&keyless.rows), &keys_of(&busy.rows)))
    }

    fn look(&self) -> usize {
        self.limit.saturating_mul(LOOK_FACTOR).min(LOOK_LIMIT.max(self.limit))
    }

    fn sorted_out<'r>(&self, rows: impl Iterator<Item = &'r Row>, busy: &BTreeSet<OrderingKey>) -> Candidates {
        let mut found = Candidates::default();
        let mut seen = BTreeSet::new();
        for row in rows {
            match ordering_key(row, 1) {
                None => found.keyless.push(big(row, 0)),
                Some(key) if busy.contains(&key) => {}
                Some(key) => {
                    if seen.insert(key.clone()) {
                        found.keys.push(key);
                    }
                }
            }
        }
        found
    }

    async fn take(&self, candidates: Candidates) -> Result<Vec<HeldMessage>, StorageError> {
        let Candidates { mine, keys, mut keyless, .. } = candidates;
        let mut runs = self.runs(&keys).await?;
        keyless.sort_unstable();
        keyless.dedup();
        runs.extend(keyless.into_iter().map(|seq| (None, vec![seq])));
        let mut wanted = picked(&runs, &mine, self.limit);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        wanted.sort_unstable();
        let keys: Vec<&OrderingKey> = runs.iter().filter_map(|(key, _)| key.as_ref()).collect();
        let (mut work, sets) = Work::begin(self.pool, WHAT, &self.lock(&wanted, &keys)).await?;
        let [locked, busy, heads] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let locked: BTreeSet<i64> = locked.rows.iter().map(|row| big(row, 0)).collect();
        let wanted: BTreeSet<i64> = wanted.into_iter().collect();
        let busy = keys_of(&busy.rows);
        let heads: BTreeMap<OrderingKey, i64> =
            heads.rows.iter().filter_map(|row| Some((ordering_key(row, 1)?, big(row, 0)))).collect();
        // of a run only what has no gap and begins its key, and nothing of a key that somebody has got hold of meanwhile
        let begins = |key: &OrderingKey, run: &[i64]| heads.get(key).is_some_and(|head| run.first() == Some(head));
        let taken =
            runs.iter().filter(|(key, run)| key.as_ref().is_none_or(|key| !busy.contains(key) && begins(key, run)));
        let taken =
            taken.flat_map(|(_, run)| run.iter().take_while(|seq| wanted.contains(seq) && locked.contains(seq)));
        let taken = numbers(taken);
        if taken == "[]" {
            work.roll_back().await;
            return Ok(Vec::new());
        }
        let sets = work.run(&self.mark(&taken)).await?;
        work.commit().await?;
        let rows = sets.into_iter().next_back().ok_or_else(|| unexpected_reply(WHAT))?.rows;
        let mut messages: Vec<_> = rows.into_iter().map(held_message).collect();
        messages.sort_by_key(|message| message.seq);
        Ok(messages)
    }

    /// The first messages of each key as far as they may go, unless a dead letter or an operator has parked it.
    async fn runs(&self, candidates: &[OrderingKey]) -> Result<Vec<(Option<OrderingKey>, Vec<i64>)>, StorageError> {
        let candidates = &candidates[..candidates.len().min(self.look())];
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let Self { held, parked, prefix, consumer, token, limit, .. } = self;
        let each = self.look().div_ceil(candidates.len()).min(*limit);
        let looked_up = table(KEYS, &keys(candidates.iter().map(|key| (key, ""))));
        let mut text = format!(
            "SELECT p.ordering_key FROM {looked_up} STRAIGHT_JOIN {parked} AS p FORCE INDEX (PRIMARY) ON p.consumer = {consumer} \
             AND p.ordering_key = unhex(v.ordering_key) WHERE p.reason <> 'held'"
        );
        for (number, key) in candidates.iter().enumerate() {
            let separator = if number == 0 { "; " } else { " UNION ALL " };
            let key = bytes_literal(key.as_bytes());
            text.push_str(&format!(
                "{separator}(SELECT {number}, h.seq, coalesce(h.claim = {token}, 0) OR ({}) FROM {held} AS h \
                 FORCE INDEX ({prefix}held_key) WHERE h.consumer = {consumer} AND h.ordering_key = {key} ORDER BY h.seq LIMIT {each})",
                self.is_free(),
            ));
        }
        let sets = self.pool.run(WHAT, &text).await?;
        let [stopped, places] = &sets[..] else { return Err(unexpected_reply(WHAT)) };
        let stopped = keys_of(&stopped.rows);
        let mut by_key: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
        for row in &places.rows {
            let place = Place { seq: big(row, 1), may_go: big(row, 2) != 0 };
            by_key.entry(usize::try_from(big(row, 0)).unwrap_or(0)).or_default().push(place);
        }
        let mut runs = Vec::new();
        for (number, mut places) in by_key {
            let Some(key) = candidates.get(number).filter(|key| !stopped.contains(key)) else { continue };
            places.sort_by_key(|place| place.seq);
            let run: Vec<i64> = places.iter().take_while(|place| place.may_go).map(|place| place.seq).collect();
            runs.push((Some(key.clone()), run));
        }
        Ok(runs)
    }

    /// Locks what is still free of these, and then looks again at who has keys, and at the first message of each key that nobody has parked meanwhile.
    /// That is one statement: a first message that was buried, and has parked its key, is seen either there or in the key.
    fn lock(&self, wanted: &[i64], of_keys: &[&OrderingKey]) -> String {
        let Self { held, parked, prefix, consumer, token, .. } = self;
        format!(
            "SELECT h.seq FROM {} STRAIGHT_JOIN {held} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq WHERE h.consumer = {consumer} \
             AND (h.claim = {token} OR ({})) FOR UPDATE SKIP LOCKED; {}; \
             SELECT (SELECT h.seq FROM {held} AS h FORCE INDEX ({prefix}held_key) WHERE h.consumer = {consumer} \
             AND h.ordering_key = p.ordering_key ORDER BY h.seq LIMIT 1), p.ordering_key FROM {} STRAIGHT_JOIN {parked} AS p FORCE INDEX (PRIMARY) \
             ON p.consumer = {consumer} AND p.ordering_key = unhex(v.ordering_key) WHERE p.reason = 'held'",
            beside_locks(&table(NUMBERS, &numbers(wanted))),
            self.is_free(),
            self.busy_keys(),
            table(KEYS, &keys(of_keys.iter().map(|key| (*key, "")))),
        )
    }

    fn mark(&self, taken: &str) -> String {
        let Self { held, token, lease_micros, .. } = self;
        let joined =
            format!("{} STRAIGHT_JOIN {held} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq", table(NUMBERS, taken));
        format!(
            "UPDATE {joined} SET h.status = 'processing', h.claim = {token}, \
             h.claimed_until = utc_timestamp(6) + INTERVAL {lease_micros} MICROSECOND; \
             SELECT {} FROM {joined}",
            columns(),
        )
    }
}

fn keys_of(rows: &[Row]) -> BTreeSet<OrderingKey> {
    rows.iter().filter_map(|row| ordering_key(row, 0)).collect()
}

/// Up to `limit` messages from the beginnings of the runs: what the claim has first, then the oldest.
fn picked(runs: &[(Option<OrderingKey>, Vec<i64>)], mine: &[i64], limit: usize) -> Vec<i64> {
    let mut all: Vec<(bool, i64)> =
        runs.iter().flat_map(|(_, run)| run).map(|seq| (!mine.contains(seq), *seq)).collect();
    all.sort_unstable();
    all.truncate(limit);
    all.into_iter().map(|(_, seq)| seq).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_has_comes_before_what_is_older() {
        let runs = [(Some(OrderingKey::of("o", b"a")), vec![1, 4, 5]), (None, vec![2]), (None, vec![3])];
        assert_eq!(picked(&runs, &[], 3), [1, 2, 3]);
        assert_eq!(picked(&runs, &[3], 2), [3, 1]);
        assert_eq!(picked(&runs, &[3], 9), [3, 1, 2, 4, 5]);
    }
}
