use outbox_core::ports::{DeadLetter, ShardId};
use uuid::Uuid;

use super::{Database, DeadRow, Key, ParkedRow, timestamp};

impl Database {
    pub(in crate::simulation) fn dead_letters(&self, after_seq: i64, limit: usize) -> Vec<DeadLetter> {
        let mut dead: Vec<&DeadRow> = self.dead.values().filter(|dead| dead.row.message.seq > after_seq).collect();
        dead.sort_by_key(|dead| dead.row.message.seq);
        dead.into_iter().take(limit).map(DeadRow::letter).collect()
    }

    /// Makes a dead letter pending again; its key, when it was parked.
    pub(in crate::simulation) fn replay(&mut self, id: Uuid) -> bool {
        let Some(mut row) = self.take_dead(id) else { return false };
        row.message.attempts = 0;
        row.retry_at = None;
        self.rows.insert((row.message.shard, row.message.seq), row);
        true
    }

    pub(in crate::simulation) fn discard(&mut self, id: Uuid) -> bool {
        self.take_dead(id).is_some()
    }

    pub(in crate::simulation) fn park(&mut self, key: Key) -> bool {
        let shard = self.shard_of_key(&key);
        self.bump(shard);
        let is_new = !self.parked.contains_key(&key);
        self.parked.entry(key).or_insert(ParkedRow { shard, dead_letter: None });
        is_new
    }

    pub(in crate::simulation) fn unpark(&mut self, key: &Key) -> bool {
        let shard = self.parked.remove(key).map(|row| row.shard);
        if let Some(shard) = shard {
            self.bump(shard);
        }
        shard.is_some()
    }

    /// The keys that are parked now.
    pub(in crate::simulation) fn parked(&self) -> impl Iterator<Item = &Key> {
        self.parked.keys()
    }

    fn take_dead(&mut self, id: Uuid) -> Option<super::Row> {
        let dead = self.dead.remove(&id)?;
        if let Some(key) = dead.row.key() {
            let by = self.parked.get(&key).and_then(|row| row.dead_letter);
            if !by.is_some_and(|by| self.dead.contains_key(&by)) {
                self.parked.remove(&key);
            }
        }
        self.bump(dead.row.message.shard);
        Some(dead.row)
    }

    fn bump(&mut self, shard: ShardId) {
        self.leases[usize::from(shard.0)].control_version += 1;
    }
}

impl DeadRow {
    fn letter(&self) -> DeadLetter {
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
            died_at: timestamp(self.died_at),
        }
    }
}
