use std::time::Duration;

use async_trait::async_trait;
use outbox_core::message::LaneKey;
use outbox_core::ports::{
    Backlog, Burial, FailureMark, Fenced, Lease, ParkedKey, Position, Settler, ShardId, StorageError,
};
use uuid::Uuid;

use super::tables::{DeadRow, ParkedRow};
use super::{MemoryStorage, State};

/// Characters of an error text that are kept.
const ERROR_CHARS: usize = 2_000;
/// Where counting dead letters stops.
const DEAD_LETTERS_COUNTED: usize = 10_000;

#[async_trait]
impl Settler for MemoryStorage {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        let mut state = self.available()?;
        for position in delivered {
            state.tables.remove(position);
        }
        Ok(())
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        let mut state = self.available()?;
        if !is_fenced_in(&state, owner, lease) {
            return Ok(Fenced::Lost);
        }
        let retry_at = state.clock.now() + mark.delay;
        if let Some(row) = state.tables.row(&mark.position) {
            row.message.attempts = mark.attempts;
            row.retry_at = Some(retry_at);
        }
        Ok(Fenced::Done)
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        let mut state = self.available()?;
        if !is_fenced_in(&state, owner, lease) {
            return Ok(Fenced::Lost);
        }
        let died_at = state.clock.now();
        let Some(mut row) = state.tables.remove(&burial.position) else { return Ok(Fenced::Done) };
        row.message.attempts = burial.attempts;
        if let Some(key) = row.message.aggregate_id.clone().filter(|_| burial.park_key) {
            let name = (row.message.aggregate_type.clone(), key);
            let parked = ParkedRow { shard: burial.position.shard, dead_letter: Some(burial.position.id) };
            state.tables.parked_keys.entry(name).or_insert(parked);
        }
        let error = burial.error.chars().take(ERROR_CHARS).collect();
        let (reason, outcome_unknown) = (burial.reason, burial.outcome_unknown);
        let dead = DeadRow { row, reason, error, outcome_unknown, died_at };
        state.tables.dead_letters.insert(burial.position.seq, dead);
        Ok(Fenced::Done)
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        let state = self.available()?;
        let parked = state.tables.parked_keys.iter().filter(|(_, row)| shards.contains(&row.shard));
        Ok(parked.map(|((kind, id), row)| ParkedKey { shard: row.shard, lane: LaneKey::of(kind, id) }).collect())
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        let state = self.available()?;
        let now = state.clock.now();
        let rows = state.tables.messages.values();
        let oldest = rows.filter(|row| !row.is_waiting(now)).map(|row| row.message.occurred_at).min();
        Ok(Backlog {
            pending: state.tables.messages.len() as u64,
            estimated: false,
            oldest_age: oldest.map(|oldest| Duration::try_from(now - oldest).unwrap_or_default()),
            dead_letters: state.tables.dead_letters.len().min(DEAD_LETTERS_COUNTED) as u64,
        })
    }
}

fn is_fenced_in(state: &State, owner: Uuid, lease: &Lease) -> bool {
    state.tables.leases.get(&lease.shard).is_some_and(|row| row.stands(owner, lease))
}
