use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{
    ClaimToken, Consumer, HeldBacklog, HeldBurial, HeldFailure, HeldMessage, HeldQueue, OrderingKey, ParkedBy,
};
use outbox_core::ports::{Fenced, StorageError};
use time::OffsetDateTime;

use super::locks::{Mode, Row};
use super::tables::HeldRow;
use super::{MemoryInbox, State};

/// Counts stop here, as they would in a database.
const COUNTED: usize = 10_000;

#[async_trait]
impl HeldQueue for MemoryInbox {
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError> {
        let mut state = self.available()?;
        let now = state.clock.now();
        let seqs: Vec<i64> = state.claimable(consumer, claim, now).into_iter().take(limit).collect();
        let mut claimed = Vec::new();
        for seq in seqs {
            let Some(row) = state.tables.held.get_mut(&seq) else { continue };
            row.claim = Some((claim, now + lease));
            let (identity, key, incoming) = (row.identity.clone(), row.key.clone(), row.incoming.clone());
            claimed.push(HeldMessage { seq, identity, key, incoming, attempts: row.attempts });
        }
        Ok(claimed)
    }

    async fn fail(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        failure: &HeldFailure,
    ) -> Result<Fenced, StorageError> {
        let open = self.open();
        open.lock(&Row::Held(failure.seq), Mode::Exclusive).await?;
        let mut state = self.available()?;
        let due_at = state.clock.now() + failure.delay;
        let Some(row) = state.mine(consumer, claim, failure.seq) else { return Ok(Fenced::Lost) };
        (row.attempts, row.due_at, row.claim) = (failure.attempts, due_at, None);
        Ok(Fenced::Done)
    }

    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError> {
        let open = self.open();
        let found = self.available()?.tables.held.get(&burial.seq).cloned();
        let Some(row) = found else { return Ok(Fenced::Lost) };
        if let Some(identity) = &row.identity {
            open.lock(&Row::Message(consumer.clone(), identity.clone()), Mode::Exclusive).await?;
        }
        if let Some(key) = row.key.filter(|_| burial.park_key) {
            open.lock(&Row::Parked(consumer.clone(), key), Mode::Exclusive).await?;
        }
        open.lock(&Row::Held(burial.seq), Mode::Exclusive).await?;
        let mut state = self.available()?;
        let now = state.clock.now();
        if state.mine(consumer, claim, burial.seq).is_none() {
            return Ok(Fenced::Lost);
        }
        state.tables.bury(burial, now);
        Ok(Fenced::Done)
    }

    async fn release(&self, consumer: &Consumer, claim: ClaimToken, keys: &[OrderingKey]) -> Result<(), StorageError> {
        for row in self.available()?.tables.held.values_mut() {
            if row.consumer == *consumer && row.claim.is_some_and(|(token, _)| token == claim) {
                row.claim = None;
            }
        }
        for key in keys.iter().collect::<BTreeSet<_>>() {
            self.unpark_when_nothing_is_held(consumer, key).await?;
        }
        Ok(())
    }

    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError> {
        let state = self.available()?;
        let now = state.clock.now();
        let count = |number: usize| number.min(COUNTED) as u64;
        let next = state.heads(consumer).into_iter().filter_map(|(_, row)| state.free_at(row)).min();
        Ok(HeldBacklog {
            held: count(state.tables.held.values().filter(|row| row.consumer == *consumer).count()),
            parked_keys: count(state.tables.parked.keys().filter(|(other, _)| other == consumer).count()),
            dead_letters: count(state.tables.dead_letters.values().filter(|row| row.consumer == *consumer).count()),
            next_due: next.map(|time| Duration::try_from(time - now).unwrap_or_default()),
        })
    }
}

impl MemoryInbox {
    pub(super) async fn unpark_when_nothing_is_held(
        &self,
        consumer: &Consumer,
        key: &OrderingKey,
    ) -> Result<(), StorageError> {
        let open = self.open();
        open.lock(&Row::Parked(consumer.clone(), key.clone()), Mode::Exclusive).await?;
        let mut state = self.available()?;
        let of_key = (consumer.clone(), key.clone());
        let by = state.tables.parked.get(&of_key).map(|row| row.by);
        if by == Some(ParkedBy::Held) && !state.tables.is_held(consumer, key) {
            state.tables.parked.remove(&of_key);
        }
        Ok(())
    }
}

impl State {
    /// The first held message of each key that may go on, and all without a key.
    fn heads(&self, consumer: &Consumer) -> Vec<(i64, &HeldRow)> {
        let mut keys = BTreeSet::new();
        let rows = self.tables.held.iter().filter(|(_, row)| row.consumer == *consumer);
        rows.filter(|(_, row)| match &row.key {
            Some(key) => keys.insert(key.clone()) && self.may_go_on(consumer, key),
            None => true,
        })
        .map(|(seq, row)| (*seq, row))
        .collect()
    }

    fn may_go_on(&self, consumer: &Consumer, key: &OrderingKey) -> bool {
        let parked = self.tables.parked.get(&(consumer.clone(), key.clone()));
        parked.is_none_or(|row| row.by == ParkedBy::Held)
    }

    /// When a head can be claimed.
    fn free_at(&self, row: &HeldRow) -> Option<OffsetDateTime> {
        Some(row.claim.map_or(row.due_at, |(_, until)| until.max(row.due_at)))
    }

    /// What a claim may take, by `seq`: its own, and runs from heads that are due and free.
    fn claimable(&self, consumer: &Consumer, claim: ClaimToken, now: OffsetDateTime) -> Vec<i64> {
        let is_free = |seq: i64, row: &HeldRow| {
            let free = row.claim.is_none_or(|(token, until)| token == claim || until <= now);
            free && !self.locks.is_locked(&Row::Held(seq))
        };
        let mut taken = BTreeSet::new();
        for (head, row) in self.heads(consumer) {
            let own = row.claim.is_some_and(|(token, _)| token == claim);
            if !is_free(head, row) || (row.due_at > now && !own) {
                continue;
            }
            let Some(key) = &row.key else {
                taken.insert(head);
                continue;
            };
            let of_key = |row: &HeldRow| row.consumer == *consumer && row.key.as_ref() == Some(key);
            let run: Vec<_> = self.tables.held.range(head..).filter(|(_, row)| of_key(row)).collect();
            if run.iter().all(|(seq, row)| is_free(**seq, row)) {
                // a follower that is not due (a failed message before which another one was replayed) ends the run
                let is_due = |row: &HeldRow| row.due_at <= now || row.claim.is_some_and(|(token, _)| token == claim);
                taken.extend(run.into_iter().take_while(|(_, row)| is_due(row)).map(|(seq, _)| *seq));
            }
        }
        taken.into_iter().collect()
    }

    fn mine(&mut self, consumer: &Consumer, claim: ClaimToken, seq: i64) -> Option<&mut HeldRow> {
        let row = self.tables.held.get_mut(&seq)?;
        let is_mine = row.consumer == *consumer && row.claim.is_some_and(|(token, _)| token == claim);
        is_mine.then_some(row)
    }
}
