//! The full sweep: the net for loss below the floors.

use std::collections::BTreeMap;

use outbox_core::ports::{Batch, ReadLimits, ShardId, StorageError};

use super::appetite::Appetite;
use super::sql::ReadBinds;
use super::take::{Take, Taken};
use super::{PostgresReader, count, shard_column};

/// How far the sweep is in each shard; it wraps at the floor.
#[derive(Debug)]
pub(super) struct SweepCursors {
    after: BTreeMap<ShardId, i64>,
    /// The shard that the next piece begins with.
    next: ShardId,
}

impl Default for SweepCursors {
    fn default() -> Self {
        Self { after: BTreeMap::new(), next: ShardId(0) }
    }
}

impl SweepCursors {
    pub(super) fn retain(&mut self, keep: impl Fn(ShardId) -> bool) {
        self.after.retain(|&shard, _| keep(shard));
    }
}

impl PostgresReader {
    pub(super) async fn sweep_once(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let mut ranges: Vec<_> = self
            .tracker
            .floors()
            .filter(|&(_, floor)| floor > 0)
            .map(|(shard, floor)| {
                let after = self.sweep.after.get(&shard).copied().unwrap_or(0);
                (shard, if after < floor { after } else { 0 }, floor)
            })
            .collect();
        if ranges.is_empty() {
            return Ok(Batch::default());
        }
        let turn = ranges.partition_point(|&(shard, ..)| shard < self.sweep.next);
        ranges.rotate_left(turn);
        let left_out = ranges.get(limits.rows.max(1)).map(|&(shard, ..)| shard);
        ranges.truncate(limits.rows.max(1));
        let share = (limits.rows / ranges.len()).max(1);
        let binds = ReadBinds {
            inline_bytes: count(Appetite::inline_bytes(share * ranges.len(), limits)),
            shards: ranges.iter().map(|&(shard, ..)| shard_column(shard)).collect(),
            floors: ranges.iter().map(|&(_, after, _)| after).collect(),
            upto: Some(ranges.iter().map(|&(.., floor)| floor).collect()),
            rows: vec![count(share); ranges.len()],
            late: None,
            due: None,
            skim: None,
        };
        let mut reply = self.run(&self.statements.sweep, binds).await?;
        let epochs = self.assigned_only(std::mem::take(&mut reply.epochs));
        let clock = reply.clock;
        let mut take = Take::new(limits, clock);
        let mut cursors: BTreeMap<ShardId, (usize, i64, bool)> =
            ranges.iter().map(|&(shard, after, _)| (shard, (0, after, false))).collect();
        let mut waiting = Vec::new();
        let mut first_stopped = None;
        for found in reply.found {
            let position = found.position();
            let Some((rows, after, stopped)) = cursors.get_mut(&position.shard) else { continue };
            *rows += 1;
            if *stopped {
                continue;
            }
            match take.row(found) {
                Taken::No => {
                    *stopped = true;
                    first_stopped.get_or_insert(position.shard);
                }
                outcome => {
                    *after = position.seq;
                    if let Taken::Waits(wake_at) = outcome {
                        waiting.push((position.shard, (wake_at, position.seq)));
                    }
                }
            }
        }
        self.load_payloads(&mut take).await?;
        for (shard, (rows, after, stopped)) in cursors {
            let cut = stopped || rows >= share;
            take.batch.more |= cut;
            self.sweep.after.insert(shard, if cut { after } else { 0 });
        }
        self.sweep.next = first_stopped.or(left_out).unwrap_or(ShardId(0));
        take.batch.more |= left_out.is_some();
        for (shard, from) in waiting {
            self.due.add(shard, from);
        }
        let mut batch = Batch { epochs, ..take.batch };
        self.finish(&mut batch, clock);
        Ok(batch)
    }
}
