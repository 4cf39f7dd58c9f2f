//! The full sweep: the net for loss below the floors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outbox_core::ports::{Batch, ReadLimits, ShardId, StorageError};

use super::appetite::Appetite;
use super::sql::ReadBinds;
use super::take::{Take, Taken};
use super::{PostgresReader, count, shard_column};

/// What a piece should take at most, beyond what the quickest took: its span adapts.
const PIECE: Duration = Duration::from_millis(10);
/// The span, in `seq`, of the first piece, and the least: as many index entries take the server some milliseconds.
const LEAST_SPAN: i64 = 16_384;
/// The most: nobody has more rows than this below a floor, and it does not overflow.
const MOST_SPAN: i64 = 1 << 60;

/// How far the sweep is in each shard; it wraps at the floor.
///
/// A limit of rows alone would not bound a piece: below the floors are mostly entries of deleted rows, which no limit counts. While
/// another session holds an old snapshot they can be neither vacuumed nor skipped, and there may be millions. So a piece covers a
/// span of `seq`, which doubles while pieces are quick and halves when one was slow.
#[derive(Debug)]
pub(super) struct SweepCursors {
    after: BTreeMap<ShardId, i64>,
    /// The shard that the next piece begins with.
    next: ShardId,
    /// How much of `seq` a piece covers in each shard.
    span: i64,
    /// What the quickest piece took: the way to the server and back.
    quickest: Duration,
}

impl Default for SweepCursors {
    fn default() -> Self {
        Self { after: BTreeMap::new(), next: ShardId(0), span: LEAST_SPAN, quickest: Duration::MAX }
    }
}

impl SweepCursors {
    fn took(&mut self, time: Duration) {
        self.quickest = self.quickest.min(time);
        self.span =
            if time > self.quickest + PIECE { self.span / 2 } else { self.span * 2 }.clamp(LEAST_SPAN, MOST_SPAN);
    }

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
        let span = self.sweep.span;
        let ends: Vec<_> = ranges.iter().map(|&(_, after, floor)| floor.min(after.saturating_add(span))).collect();
        let binds = ReadBinds {
            inline_bytes: count(Appetite::inline_bytes(share * ranges.len(), limits)),
            shards: ranges.iter().map(|&(shard, ..)| shard_column(shard)).collect(),
            floors: ranges.iter().map(|&(_, after, _)| after).collect(),
            upto: Some(ends.clone()),
            rows: vec![count(share); ranges.len()],
            late: None,
            due: None,
            skim: None,
        };
        let started = Instant::now();
        let mut reply = self.run(&self.statements.sweep, binds).await?;
        self.sweep.took(started.elapsed());
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
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
        for (&(shard, _, floor), end) in ranges.iter().zip(ends) {
            let (rows, last, stopped) = cursors[&shard];
            let cut = stopped || rows >= share;
            let after = if cut { last } else { end };
            let wraps = after >= floor;
            take.batch.more |= !wraps;
            self.sweep.after.insert(shard, if wraps { 0 } else { after });
        }
        self.sweep.next = first_stopped.or(left_out).unwrap_or(ShardId(0));
        take.batch.more |= left_out.is_some();
        for (shard, from) in waiting {
            self.due.add(shard, from);
        }
        let mut batch = Batch { leases, ..take.batch };
        self.finish(&mut batch, clock);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_covers_less_after_a_slow_one_and_a_distant_server_is_not_slow() {
        let mut cursors = SweepCursors::default();
        let there_and_back = Duration::from_millis(50);
        for _ in 0..4 {
            cursors.took(there_and_back);
        }
        assert_eq!(cursors.span, LEAST_SPAN * 16);
        cursors.took(there_and_back + PIECE * 2);
        assert_eq!(cursors.span, LEAST_SPAN * 8);
        for _ in 0..100 {
            cursors.took(there_and_back);
        }
        assert_eq!(cursors.span, MOST_SPAN);
        for _ in 0..100 {
            cursors.took(Duration::from_secs(1));
        }
        assert_eq!(cursors.span, LEAST_SPAN);
    }
}
