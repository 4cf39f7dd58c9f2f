use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::ports::{Batch, DeadReason, HeldHead, Lease, ReadLimits, Reader, Refused, ShardId, StorageError};
use time::OffsetDateTime;

use super::MemoryStorage;
use super::tables::{Row, Tables};

/// Reads each shard past a floor. `seq` order is commit order here, so nothing appears below a floor but rows that
/// waited, and rows that an operator replayed, for which the relay rewinds.
pub(super) struct MemoryReader {
    storage: MemoryStorage,
    floors: BTreeMap<ShardId, i64>,
    /// Rows below the floors that were returned when they became due.
    returned_due: HashSet<(ShardId, i64, OffsetDateTime)>,
    /// The shard that the next read begins with, so that none starves.
    turn: usize,
    swept: (ShardId, i64),
}

impl MemoryReader {
    pub(super) fn new(storage: MemoryStorage) -> Self {
        let swept = (ShardId(0), 0);
        Self { storage, floors: BTreeMap::new(), returned_due: HashSet::new(), turn: 0, swept }
    }

    fn shards_in_turn(&mut self) -> Vec<ShardId> {
        let mut shards: Vec<_> = self.floors.keys().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn.checked_rem(shards.len()).unwrap_or(0);
        shards.rotate_left(first);
        shards
    }

    fn take_due(&mut self, tables: &Tables, now: OffsetDateTime, builder: &mut BatchBuilder) {
        for (&(shard, seq), row) in &tables.messages {
            let (Some(&floor), Some(wake_at)) = (self.floors.get(&shard), row.wake_at()) else { continue };
            let returned = (shard, seq, wake_at);
            if seq > floor || row.is_waiting(now) || self.returned_due.contains(&returned) {
                continue;
            }
            if !builder.take(row) {
                return;
            }
            self.returned_due.insert(returned);
        }
    }

    fn take_hot(
        &mut self,
        tables: &Tables,
        shard: ShardId,
        rows: usize,
        now: OffsetDateTime,
        builder: &mut BatchBuilder,
    ) {
        let Some(floor) = self.floors.get_mut(&shard) else { return };
        let mut taken = 0;
        for (&(_, seq), row) in tables.messages.range((shard, *floor + 1)..=(shard, i64::MAX)) {
            if row.is_waiting(now) {
                builder.pass_waiting(row);
            } else if taken == rows {
                builder.batch.more = true;
                return;
            } else if !builder.take(row) {
                return;
            } else {
                taken += 1;
            }
            if let Some(wake_at) = row.wake_at().filter(|_| !row.is_waiting(now)) {
                self.returned_due.insert((shard, seq, wake_at));
            }
            *floor = seq;
        }
    }

    fn leases(&self, tables: &Tables) -> Vec<Lease> {
        let lease = |&shard: &ShardId| {
            let row = tables.leases.get(&shard)?;
            Some(Lease { shard, epoch: row.epoch, control_version: row.control_version })
        };
        self.floors.keys().filter_map(lease).collect()
    }

    fn next_due_in(&self, tables: &Tables, now: OffsetDateTime) -> Option<Duration> {
        let passed = tables.messages.iter().filter(|((shard, seq), _)| {
            self.floors.get(shard).is_some_and(|floor| seq <= floor) // others are seen when the floor passes them
        });
        let waits = passed.filter(|(_, row)| row.is_waiting(now)).filter_map(|(_, row)| row.wake_at());
        waits.min().map(|wake_at| Duration::try_from(wake_at - now).unwrap_or_default())
    }
}

#[async_trait]
impl Reader for MemoryReader {
    fn assign(&mut self, shards: &[ShardId]) {
        self.floors.retain(|shard, _| shards.contains(shard));
        self.returned_due.retain(|(shard, ..)| shards.contains(shard));
        for &shard in shards {
            self.floors.entry(shard).or_insert(0);
        }
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        if let Some(floor) = self.floors.get_mut(&shard) {
            *floor = (*floor).min(from_seq.saturating_sub(1).max(0));
            self.returned_due.retain(|&(other, seq, _)| other != shard || seq < from_seq);
        }
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let storage = self.storage.clone();
        let state = storage.available()?;
        let now = state.clock.now();
        let mut builder = BatchBuilder::new(*limits);
        self.returned_due.retain(|(shard, seq, _)| state.tables.messages.contains_key(&(*shard, *seq)));
        self.take_due(&state.tables, now, &mut builder);
        let shards = self.shards_in_turn();
        let share = (limits.rows / shards.len().max(1)).max(1);
        for &shard in &shards {
            self.take_hot(&state.tables, shard, share, now, &mut builder);
        }
        builder.batch.more = false; // what the shares left is taken now, unless a limit is in the way
        for &shard in &shards {
            self.take_hot(&state.tables, shard, usize::MAX, now, &mut builder);
        }
        let mut batch = builder.finish();
        batch.leases = self.leases(&state.tables);
        batch.next_due_in = self.next_due_in(&state.tables, now);
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let storage = self.storage.clone();
        let state = storage.available()?;
        let now = state.clock.now();
        let mut builder = BatchBuilder::new(*limits);
        let (shard, seq) = self.swept;
        self.swept = (ShardId(0), 0);
        for (&(shard, seq), row) in state.tables.messages.range((shard, seq + 1)..) {
            if self.floors.get(&shard).is_none_or(|&floor| seq > floor) || row.is_waiting(now) {
                continue;
            }
            if !builder.take(row) {
                self.swept = (shard, seq - 1);
                break;
            }
        }
        Ok(Batch { leases: self.leases(&state.tables), ..builder.finish() })
    }
}

struct BatchBuilder {
    limits: ReadLimits,
    batch: Batch,
    bytes: usize,
    is_cut: bool,
}

impl BatchBuilder {
    fn new(limits: ReadLimits) -> Self {
        Self { limits, batch: Batch::default(), bytes: 0, is_cut: false }
    }

    /// Takes a row that is due; `false`: a limit is in the way.
    fn take(&mut self, row: &Row) -> bool {
        let size = row.message.payload.as_ref().len();
        let (position, lane) = (row.message.position(), row.message.lane());
        let is_too_large = size > self.limits.max_message_bytes;
        let is_over = self.bytes + size > self.limits.bytes && !self.batch.messages.is_empty();
        self.is_cut |= !is_too_large && (is_over || self.batch.messages.len() >= self.limits.rows);
        if self.is_cut {
            return false;
        }
        if is_too_large {
            self.batch.refused.push(Refused { position, lane, reason: DeadReason::TooLarge });
        } else {
            self.bytes += size;
            self.batch.messages.push(row.message.clone());
        }
        true
    }

    fn pass_waiting(&mut self, row: &Row) {
        if let Some(lane) = row.message.lane().filter(|_| row.message.attempts > 0) {
            self.batch.held.push(HeldHead { position: row.message.position(), lane });
        }
    }

    fn finish(mut self) -> Batch {
        self.batch.more |= self.is_cut;
        self.batch.messages.sort_by_key(|message| (message.shard, message.seq));
        self.batch
    }
}
