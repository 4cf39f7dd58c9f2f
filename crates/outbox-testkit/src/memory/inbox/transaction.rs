use std::collections::BTreeSet;

use async_trait::async_trait;
use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Fate, Identity, InboxTransaction, ParkedBy, Standing,
};
use outbox_core::ports::{Fenced, StorageError};

use super::connection::MemoryConnection;
use super::locks::{Mode, Row};
use super::tables::{Change, DeadRow, HeldRow, shortened};

/// A transaction of the inbox in memory. Its changes are applied by the commit, in one step.
#[derive(Debug)]
pub struct MemoryInboxTransaction {
    connection: MemoryConnection,
}

impl MemoryInboxTransaction {
    pub(super) fn new(connection: MemoryConnection) -> Self {
        Self { connection }
    }

    /// Inserts a dedup row; how it stands otherwise.
    async fn insert(&mut self, identity: &Identity) -> Result<Standing, StorageError> {
        let connection = &mut self.connection;
        let row = Row::Message(connection.consumer.clone(), identity.clone());
        connection.lock(&row, Mode::Exclusive).await?;
        let mut state = connection.database().available()?;
        let found = state.tables.messages.get(&(connection.consumer.clone(), identity.clone())).copied();
        match found {
            Some(found) => {
                state.locks.unlock(connection.open.id, &row);
                drop(state);
                connection.database().shared.unlocked.notify_waiters();
                Ok(found.standing)
            }
            None => {
                drop(state);
                self.connection.changes.push(Change::Message(identity.clone(), Standing::Processed));
                Ok(Standing::New)
            }
        }
    }
}

#[async_trait]
impl InboxTransaction for MemoryInboxTransaction {
    type Connection = MemoryConnection;

    fn connection(&mut self) -> &mut MemoryConnection {
        &mut self.connection
    }

    async fn admit(&mut self, candidates: &[Candidate]) -> Result<Admission, StorageError> {
        drop(self.connection.database().available()?);
        let mut standings = vec![Standing::Processed; candidates.len()];
        let mut by_identity: Vec<usize> = (0..candidates.len()).collect();
        by_identity.sort_by_key(|&index| &candidates[index].identity); // stable: the first of two equal ones is new
        let mut last: Option<&Identity> = None;
        for index in by_identity {
            let identity = &candidates[index].identity;
            if last != Some(identity) {
                standings[index] = self.insert(identity).await?;
            }
            last = Some(identity);
        }
        let mut parked = BTreeSet::new();
        for key in candidates.iter().filter_map(|candidate| candidate.key.as_ref()).collect::<BTreeSet<_>>() {
            let of_key = (self.connection.consumer.clone(), key.clone());
            let row = Row::Parked(of_key.0.clone(), key.clone());
            if self.connection.database().available()?.tables.parked.contains_key(&of_key) {
                self.connection.lock(&row, Mode::Shared).await?;
                if self.connection.database().available()?.tables.parked.contains_key(&of_key) {
                    parked.insert(key.clone());
                }
            }
        }
        let horizon = self.connection.database().available()?.tables.horizons.get(&self.connection.consumer).copied();
        Ok(Admission { standings, parked, horizon })
    }

    async fn put_aside(&mut self, messages: &[Aside]) -> Result<(), StorageError> {
        self.connection.connected()?;
        let keys: BTreeSet<_> =
            messages.iter().filter(|aside| parks(&aside.fate)).filter_map(|m| m.key.clone()).collect();
        for key in keys {
            let row = Row::Parked(self.connection.consumer.clone(), key);
            self.connection.lock(&row, Mode::Shared).await?;
        }
        let connection = &mut self.connection;
        let mut changes = Vec::new();
        let mut state = connection.open.database.available()?;
        let now = state.clock.now();
        for aside in messages {
            let seq = state.tables.next_seq();
            let Aside { identity, key, incoming, fate } = aside.clone();
            let consumer = connection.consumer.clone();
            let is_dead = matches!(fate, Fate::Dead { .. });
            if let Some(identity) = identity.clone() {
                let standing = if is_dead { Standing::Dead } else { Standing::Held };
                changes.push(Change::Message(identity, standing));
            }
            if let Some(key) = key.clone().filter(|_| parks(&fate)) {
                changes.push(Change::Park(key, if is_dead { ParkedBy::DeadLetter } else { ParkedBy::Held }));
            }
            let held = |attempts, due_at| {
                let (consumer, identity, key) = (consumer.clone(), identity.clone(), key.clone());
                let incoming = incoming.clone();
                Change::Hold(
                    seq,
                    Box::new(HeldRow { consumer, identity, key, incoming, attempts, due_at, claim: None }),
                )
            };
            changes.push(match fate {
                Fate::Received | Fate::Waiting => held(0, now),
                Fate::Failed { attempts, delay, .. } => held(attempts, now + delay),
                Fate::Dead { attempts, reason, error, park_key } => {
                    let (error, parks_key) = (shortened(&error), park_key && key.is_some());
                    let row =
                        DeadRow { consumer, identity, key, incoming, attempts, reason, error, parks_key, died_at: now };
                    Change::Bury(seq, Box::new(row))
                }
            });
        }
        drop(state);
        connection.changes.extend(changes);
        Ok(())
    }

    async fn complete(&mut self, claim: ClaimToken, seqs: &[i64]) -> Result<Fenced, StorageError> {
        let consumer = self.connection.consumer.clone();
        let identities: BTreeSet<Identity> = {
            let state = self.connection.database().available()?;
            seqs.iter().filter_map(|seq| state.tables.held.get(seq)?.identity.clone()).collect()
        };
        for identity in &identities {
            self.connection.lock(&Row::Message(consumer.clone(), identity.clone()), Mode::Exclusive).await?;
        }
        let mut sorted = seqs.to_vec();
        sorted.sort_unstable();
        for &seq in &sorted {
            self.connection.lock(&Row::Held(seq), Mode::Exclusive).await?;
        }
        let state = self.connection.open.database.available()?;
        let is_mine = |seq| {
            let row = state.tables.held.get(seq);
            row.is_some_and(|row| row.consumer == consumer && row.claim.is_some_and(|(token, _)| token == claim))
        };
        if !sorted.iter().all(is_mine) {
            return Ok(Fenced::Lost);
        }
        drop(state);
        let processed = identities.into_iter().map(|identity| Change::Message(identity, Standing::Processed));
        self.connection.changes.extend(processed.chain(sorted.into_iter().map(Change::RemoveHeld)));
        Ok(Fenced::Done)
    }

    async fn commit(mut self) -> Result<Committed, StorageError> {
        let connection = &mut self.connection;
        connection.connected()?;
        let mut state = connection.open.database.available()?;
        if connection.is_ruined && !connection.open.database.commits_unverified {
            return Ok(Committed::Broken);
        }
        let now = state.clock.now();
        for change in connection.changes.drain(..) {
            state.tables.apply(&connection.consumer, change, now);
        }
        Ok(Committed::Done)
    }

    async fn answers(&mut self) -> bool {
        self.connection.connected().is_ok()
    }

    async fn rollback(self) {}
}

fn parks(fate: &Fate) -> bool {
    !matches!(fate, Fate::Dead { park_key: false, .. })
}
