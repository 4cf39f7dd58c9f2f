use async_trait::async_trait;
use outbox_core::inbox::{Consumer, InboxAdmin, InboxDeadLetter, InboxParkedKey, OrderingKey, ParkedBy, Standing};
use outbox_core::ports::StorageError;

use super::MemoryInbox;
use super::locks::{Mode, Row};
use super::tables::{DeadRow, HeldRow, MessageRow};

#[async_trait]
impl InboxAdmin for MemoryInbox {
    async fn dead_letters(
        &self,
        consumer: &Consumer,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<InboxDeadLetter>, StorageError> {
        let state = self.available()?;
        let later = state.tables.dead_letters.range(after_seq.saturating_add(1)..);
        let letters = later.filter(|(_, row)| row.consumer == *consumer).take(limit);
        Ok(letters.map(|(seq, row)| letter(*seq, row)).collect())
    }

    async fn replay(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let Some((row, _open)) = self.lock_letter(consumer, seq).await? else { return Ok(false) };
        let mut state = self.available()?;
        if state.tables.dead_letters.remove(&seq).is_none() {
            return Ok(false);
        }
        let now = state.clock.now();
        if let Some(identity) = &row.identity {
            let message = MessageRow { standing: Standing::Held, processed_at: now };
            state.tables.messages.insert((consumer.clone(), identity.clone()), message);
        }
        let DeadRow { consumer, identity, key, incoming, .. } = row;
        let held = HeldRow {
            consumer: consumer.clone(),
            identity,
            key: key.clone(),
            incoming,
            attempts: 0,
            due_at: now,
            claim: None,
        };
        state.tables.held.insert(seq, held);
        if let Some(key) = &key {
            state.tables.park(&consumer, key.clone(), ParkedBy::Held, now);
            state.tables.settle_without_letter(&consumer, key);
        }
        Ok(true)
    }

    async fn discard(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let Some((row, _open)) = self.lock_letter(consumer, seq).await? else { return Ok(false) };
        let mut state = self.available()?;
        if state.tables.dead_letters.remove(&seq).is_none() {
            return Ok(false);
        }
        let processed = MessageRow { standing: Standing::Processed, processed_at: state.clock.now() };
        if let Some(identity) = row.identity {
            state.tables.messages.insert((consumer.clone(), identity), processed);
        }
        if let Some(key) = &row.key {
            state.tables.settle_without_letter(consumer, key);
        }
        Ok(true)
    }

    async fn pass(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError> {
        let Some((row, _open)) = self.lock_letter(consumer, seq).await? else { return Ok(false) };
        let mut state = self.available()?;
        let letter = state.tables.dead_letters.get_mut(&seq).filter(|letter| letter.parks_key);
        let Some(letter) = letter else { return Ok(false) };
        letter.parks_key = false;
        if let Some(key) = &row.key {
            state.tables.settle_without_letter(consumer, key);
        }
        Ok(true)
    }

    async fn parked_keys(
        &self,
        consumer: &Consumer,
        after: Option<&OrderingKey>,
        limit: usize,
    ) -> Result<Vec<InboxParkedKey>, StorageError> {
        let state = self.available()?;
        let of_consumer = state.tables.parked.iter().filter(|((other, _), _)| other == consumer);
        let later = of_consumer.filter(|((_, key), _)| after.is_none_or(|after| key > after)).take(limit);
        let keys =
            later.map(|((_, key), row)| InboxParkedKey { key: key.clone(), by: row.by, parked_at: row.parked_at });
        Ok(keys.collect())
    }

    async fn park(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        let open = self.open();
        open.lock(&Row::Parked(consumer.clone(), key.clone()), Mode::Exclusive).await?;
        let mut state = self.available()?;
        let by = state.tables.parked.get(&(consumer.clone(), key.clone())).map(|row| row.by);
        let now = state.clock.now();
        state.tables.park(consumer, key.clone(), ParkedBy::Operator, now);
        Ok(by != Some(ParkedBy::Operator))
    }

    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError> {
        let open = self.open();
        open.lock(&Row::Parked(consumer.clone(), key.clone()), Mode::Exclusive).await?;
        let mut state = self.available()?;
        if state.tables.parked_by(consumer, key) != Some(ParkedBy::Operator) {
            return Ok(false);
        }
        state.tables.settle(consumer, key);
        Ok(true)
    }
}

impl MemoryInbox {
    async fn lock_letter(
        &self,
        consumer: &Consumer,
        seq: i64,
    ) -> Result<Option<(DeadRow, super::OpenTransaction)>, StorageError> {
        let open = self.open();
        let found = self.available()?.tables.dead_letters.get(&seq).cloned();
        let Some(row) = found.filter(|row| row.consumer == *consumer) else { return Ok(None) };
        if let Some(identity) = &row.identity {
            open.lock(&Row::Message(consumer.clone(), identity.clone()), Mode::Exclusive).await?;
        }
        if let Some(key) = &row.key {
            open.lock(&Row::Parked(consumer.clone(), key.clone()), Mode::Exclusive).await?;
        }
        Ok(Some((row, open)))
    }
}

fn letter(seq: i64, row: &DeadRow) -> InboxDeadLetter {
    InboxDeadLetter {
        seq,
        identity: row.identity.clone(),
        key: row.key.clone(),
        incoming: row.incoming.clone(),
        reason: row.reason.as_str().to_owned(),
        error: row.error.clone(),
        attempts: row.attempts,
        died_at: row.died_at,
    }
}
