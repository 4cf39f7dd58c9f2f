use async_trait::async_trait;
use outbox_core::inbox::{Consumer, Identity, InboxMemory, Partition, RememberedPosition, Standing};
use outbox_core::ports::StorageError;
use time::OffsetDateTime;

use super::MemoryInbox;
use super::locks::Row;

#[async_trait]
impl InboxMemory for MemoryInbox {
    async fn positions(&self, consumer: &Consumer) -> Result<Vec<RememberedPosition>, StorageError> {
        let state = self.available()?;
        let of_consumer = state.tables.positions.iter().filter(|((other, _), _)| other == consumer);
        Ok(of_consumer
            .map(|((_, partition), position)| RememberedPosition { partition: partition.clone(), position: *position })
            .collect())
    }

    async fn remember(&self, consumer: &Consumer, positions: &[RememberedPosition]) -> Result<(), StorageError> {
        let mut state = self.available()?;
        for RememberedPosition { partition, position } in positions {
            let known = state.tables.positions.entry((consumer.clone(), partition.clone())).or_insert(*position);
            *known = (*known).max(*position);
        }
        Ok(())
    }

    async fn forget(&self, consumer: &Consumer, partition: &Partition) -> Result<bool, StorageError> {
        Ok(self.available()?.tables.positions.remove(&(consumer.clone(), partition.clone())).is_some())
    }

    async fn now(&self) -> Result<OffsetDateTime, StorageError> {
        Ok(self.available()?.clock.now())
    }

    async fn purge(&self, consumer: &Consumer, horizon: OffsetDateTime, limit: usize) -> Result<usize, StorageError> {
        let mut state = self.available()?;
        let known = state.tables.horizons.entry(consumer.clone()).or_insert(horizon);
        *known = (*known).max(horizon);
        let is_old = |(row, message): &(&(Consumer, Identity), &super::tables::MessageRow)| {
            let is_settled = match message.standing {
                Standing::Dead => self.forgets_dead_letters,
                standing => standing == Standing::Processed,
            };
            row.0 == *consumer && is_settled && message.processed_at < horizon
        };
        let mut old: Vec<_> = state.tables.messages.iter().filter(is_old).collect();
        old.sort_by_key(|(_, message)| message.processed_at);
        let old: Vec<_> = old.into_iter().map(|(row, _)| row.clone()).collect();
        let free = |row: &&(Consumer, Identity)| !state.locks.is_locked(&Row::Message(row.0.clone(), row.1.clone()));
        let old: Vec<_> = old.iter().filter(free).take(limit).cloned().collect();
        for row in &old {
            state.tables.messages.remove(row);
        }
        Ok(old.len())
    }
}
