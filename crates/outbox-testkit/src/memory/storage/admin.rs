use async_trait::async_trait;
use outbox_core::ports::{Admin, DeadLetter, StorageError};
use uuid::Uuid;

use super::MemoryStorage;
use super::tables::{DeadRow, ParkedRow, Tables};

#[async_trait]
impl Admin for MemoryStorage {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let state = self.available()?;
        let later = state.tables.dead_letters.range(after_seq.saturating_add(1)..);
        Ok(later.take(limit).map(|(_, dead)| dead.describe()).collect())
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        let mut state = self.available()?;
        let Some(mut dead) = state.tables.exhume(id) else { return Ok(false) };
        dead.row.message.attempts = 0;
        dead.row.retry_at = None;
        let place = (dead.row.message.shard, dead.row.message.seq);
        state.tables.messages.insert(place, dead.row);
        Ok(true)
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        Ok(self.available()?.tables.exhume(id).is_some())
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let mut state = self.available()?;
        let shard = state.tables.shard_of(aggregate_type, Some(aggregate_id), Uuid::nil());
        let name = (aggregate_type.to_owned(), aggregate_id.to_owned());
        let is_new = !state.tables.parked_keys.contains_key(&name);
        if is_new {
            state.tables.parked_keys.insert(name, ParkedRow { shard, dead_letter: None });
            state.tables.bump_control_version(shard);
        }
        Ok(is_new)
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let mut state = self.available()?;
        let parked = state.tables.parked_keys.remove(&(aggregate_type.to_owned(), aggregate_id.to_owned()));
        if let Some(ParkedRow { shard, .. }) = parked {
            state.tables.bump_control_version(shard);
        }
        Ok(parked.is_some())
    }
}

impl Tables {
    /// Takes a dead letter out and unparks its key, unless another dead letter that still exists has parked it.
    fn exhume(&mut self, id: Uuid) -> Option<DeadRow> {
        let seq = self.dead_letters.iter().find(|(_, dead)| dead.row.message.id == id).map(|(&seq, _)| seq)?;
        let dead = self.dead_letters.remove(&seq)?;
        let message = &dead.row.message;
        if let Some(key) = message.aggregate_id.clone() {
            let name = (message.aggregate_type.clone(), key);
            let by = self.parked_keys.get(&name).and_then(|row| row.dead_letter).filter(|&by| by != id);
            if !by.is_some_and(|by| self.dead_letters.values().any(|dead| dead.row.message.id == by)) {
                self.parked_keys.remove(&name);
            }
        }
        let shard = message.shard;
        self.bump_control_version(shard);
        Some(dead)
    }
}

impl DeadRow {
    fn describe(&self) -> DeadLetter {
        let message = &self.row.message;
        DeadLetter {
            position: message.position(),
            aggregate_type: message.aggregate_type.clone(),
            aggregate_id: message.aggregate_id.clone(),
            event_type: message.event_type.clone(),
            reason: self.reason.as_str().to_owned(),
            error: self.error.clone(),
            attempts: message.attempts,
            outcome_unknown: self.outcome_unknown,
            died_at: self.died_at,
        }
    }
}
