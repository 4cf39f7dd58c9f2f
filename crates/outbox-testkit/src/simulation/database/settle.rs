use outbox_core::message::LaneKey;
use outbox_core::ports::{Backlog, Burial, FailureMark, ParkedKey, Position, ShardId};
use std::time::Duration;

use super::{Database, DeadRow, Key, Micros, ParkedRow, Row};

/// What a table keeps of an error's text.
const ERROR_CHARS: usize = 2_000;

impl Database {
    /// Removes rows that match; says which.
    pub(in crate::simulation) fn delete(&mut self, positions: &[Position]) -> Vec<Position> {
        positions.iter().filter(|position| self.remove(position).is_some()).copied().collect()
    }

    /// Marks a failed attempt; `false` when the row is not there.
    pub(in crate::simulation) fn mark_failed(&mut self, mark: &FailureMark, now: Micros) -> bool {
        let place = (mark.position.shard, mark.position.seq);
        let row = self.rows.get_mut(&place).filter(|row| row.message.id == mark.position.id);
        row.map(|row| {
            row.message.attempts = mark.attempts;
            row.retry_at = Some(now + micros(mark.delay));
        })
        .is_some()
    }

    /// Moves a row to the dead letters; the key that was parked with it, and whether the row was there.
    pub(in crate::simulation) fn bury(&mut self, burial: &Burial, now: Micros) -> bool {
        let Some(mut row) = self.remove(&burial.position) else { return false };
        row.message.attempts = burial.attempts;
        if let (true, Some(key)) = (burial.park_key, row.key()) {
            let parked = ParkedRow { shard: row.message.shard, dead_letter: Some(burial.position.id) };
            self.parked.entry(key).or_insert(parked);
        }
        let dead = DeadRow {
            row,
            reason: burial.reason,
            error: burial.error.chars().take(ERROR_CHARS).collect(),
            outcome_unknown: burial.outcome_unknown,
            died_at: now,
        };
        self.dead.insert(burial.position.id, dead);
        true
    }

    pub(in crate::simulation) fn parked_keys(&self, shards: &[ShardId]) -> Vec<ParkedKey> {
        let parked = self.parked.iter().filter(|(_, row)| shards.contains(&row.shard));
        parked.map(|((kind, id), row)| ParkedKey { shard: row.shard, lane: LaneKey::of(kind, id) }).collect()
    }

    pub(in crate::simulation) fn backlog(&self, now: Micros) -> Backlog {
        let ready = self.rows.values().filter(|row| !row.waits(now));
        let oldest = ready.map(|row| row.message.occurred_at).min();
        Backlog {
            pending: self.rows.len() as u64,
            estimated: false,
            oldest_age: oldest.map(|at| (super::timestamp(now) - at).try_into().unwrap_or_default()),
            dead_letters: self.dead.len() as u64,
        }
    }

    fn remove(&mut self, position: &Position) -> Option<Row> {
        let place = (position.shard, position.seq);
        if self.rows.get(&place)?.message.id != position.id {
            return None;
        }
        self.rows.remove(&place)
    }
}

impl Row {
    pub(in crate::simulation) fn key(&self) -> Option<Key> {
        Some((self.message.aggregate_type.clone(), self.message.aggregate_id.clone()?))
    }
}

pub(in crate::simulation) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}
