//! From the rows of a read to a batch, and to where the next read begins.

use std::collections::{BTreeMap, BTreeSet};

use outbox_core::order::{HotRange, Observed, Plan, SnapshotTracker};
use outbox_core::ports::{ReadLimits, ShardId};

use super::Reply;
use super::ranges::{LateProgress, LateRanges};
use super::skim::Skim;
use super::sql::DUE;
use crate::reading::{DueFrom, DueTimes, Found, Take, Taken};

/// What a read asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: usize,
    pub(super) plan: Plan,
    pub(super) late: LateRanges,
    pub(super) due: Vec<(ShardId, DueFrom)>,
    pub(super) due_limit: usize,
    /// Shards that are skimmed instead of read.
    pub(super) skim: Vec<ShardId>,
}

/// What a read changes once its batch is complete.
#[derive(Debug, Default)]
pub(super) struct Changes {
    observed: Observed,
    /// Shards whose due rows were read, with where the rest of them begins.
    due: Vec<(ShardId, Option<DueFrom>)>,
    waiting: Vec<(ShardId, DueFrom)>,
    /// The first shard that a limit cut.
    pub(super) cut: Option<ShardId>,
    /// For each shard read: rows past its floor, and how many of them could not be delivered.
    useless: Vec<(ShardId, usize, usize)>,
    /// Shards skimmed, and whether something to be read follows.
    skimmed: Vec<(ShardId, bool)>,
}

#[derive(Default)]
struct ShardRows {
    due: Vec<Found>,
    late: Vec<(usize, Found)>,
    hot: Vec<Found>,
}

impl Asked {
    /// Takes rows within the limits, shard by shard from `first` on.
    pub(super) fn sort_out<'l>(
        &self,
        reply: Reply,
        first: ShardId,
        skim: &Skim,
        limits: &'l ReadLimits,
    ) -> (Take<'l>, Changes) {
        let mut take = Take::new(limits, reply.clock);
        let mut changes = Changes::default();
        let mut progress = self.late_progress(&reply);
        let mut shards = self.by_shard(reply.found);
        let mut turns: Vec<_> = self.plan.hot.iter().collect();
        turns.rotate_left(self.plan.hot.partition_point(|range| range.shard < first));
        for range in turns {
            let rows = shards.remove(&range.shard).unwrap_or_default();
            self.take_due(range.shard, rows.due, &mut take, &mut changes);
            self.take_late(range.shard, rows.late, &mut take, &mut progress, &mut changes);
            if progress.is_cut(&self.late, range.shard) {
                // What the cut range still holds may precede the rows past the floor.
                take.batch.more = true;
                changes.observed.hot.push((range.shard, range.after, true));
            } else if let Some(skimmed) = reply.skimmed.iter().find(|skimmed| skimmed.shard == range.shard) {
                take.batch.more = true;
                changes.observed.hot.push((range.shard, skimmed.upto.max(range.after), true));
                changes.skimmed.push((range.shard, skimmed.found));
                changes.waiting.extend(skimmed.wake_at.map(|wake_at| (range.shard, (wake_at, 0))));
            } else {
                if self.skim.contains(&range.shard) {
                    // Nothing is past the floor at all.
                    changes.skimmed.push((range.shard, true));
                }
                Self::take_hot(range, rows.hot, skim, &mut take, &mut changes);
            }
        }
        changes.waiting.extend(reply.next_due.into_iter().map(|(shard, wake_at)| (shard, (wake_at, 0))));
        changes.observed.snapshot = reply.snapshot;
        changes.observed.cut = progress.into_cuts(&self.late);
        (take, changes)
    }

    fn take_hot(range: &HotRange, rows: Vec<Found>, skim: &Skim, take: &mut Take<'_>, changes: &mut Changes) {
        let (mut top, mut cut, mut useless) = (range.after, rows.len() >= range.limit, 0);
        let count = rows.len();
        for found in rows {
            let seq = found.position().seq;
            let parked = skim.is_parked(range.shard, found.lane());
            match take.row(found) {
                Taken::Yes => useless += usize::from(parked),
                Taken::Waits(wake_at) => {
                    useless += 1;
                    changes.waiting.push((range.shard, (wake_at, seq)));
                }
                Taken::No => {
                    changes.cut(range.shard);
                    cut = true;
                    break;
                }
            }
            top = seq;
        }
        if cut {
            changes.useless.push((range.shard, count, useless));
        }
        take.batch.more |= cut;
        changes.observed.hot.push((range.shard, top, cut));
    }

    fn late_progress(&self, reply: &Reply) -> LateProgress {
        let mut progress = self.late.progress();
        let late = || reply.found.iter().filter_map(|found| Some((self.late.number(found.kind)?, found)));
        if let Some((number, last)) = late().last()
            && late().count() >= self.rows
        {
            progress.limit_reached(&self.late, number, last.position().seq, &reply.snapshot);
        }
        progress
    }

    fn by_shard(&self, found: Vec<Found>) -> BTreeMap<ShardId, ShardRows> {
        let mut shards: BTreeMap<ShardId, ShardRows> = BTreeMap::new();
        for found in found {
            let rows = shards.entry(found.position().shard).or_default();
            match self.late.number(found.kind) {
                Some(number) => rows.late.push((number, found)),
                None if found.kind == DUE => rows.due.push(found),
                None => rows.hot.push(found),
            }
        }
        shards
    }

    fn take_due(&self, shard: ShardId, rows: Vec<Found>, take: &mut Take<'_>, changes: &mut Changes) {
        if !self.due.iter().any(|&(asked, _)| asked == shard) {
            return;
        }
        let mut rest = None;
        let full = rows.len() >= self.due_limit;
        for found in rows {
            let (wake_at, seq) = (found.wake_at.unwrap_or(i64::MIN), found.position().seq);
            if take.row(found) == Taken::No {
                changes.cut(shard);
                rest = Some((wake_at, seq));
                take.batch.more = true;
                break;
            }
            rest = full.then_some((wake_at, seq + 1));
        }
        take.batch.more |= full;
        changes.due.push((shard, rest));
    }

    fn take_late(
        &self,
        shard: ShardId,
        rows: Vec<(usize, Found)>,
        take: &mut Take<'_>,
        progress: &mut LateProgress,
        changes: &mut Changes,
    ) {
        let mut taken: Option<(usize, i64)> = None;
        let mut full = false;
        for (number, found) in rows {
            let seq = found.position().seq;
            let outcome = if full { Taken::No } else { take.row(found) };
            match outcome {
                Taken::No => {
                    full = true;
                    changes.cut(shard);
                    progress.cut(&self.late, number, taken.filter(|&(of, _)| of == number).map(|(_, seq)| seq));
                }
                Taken::Waits(wake_at) => {
                    changes.waiting.push((shard, (wake_at, seq)));
                    taken = Some((number, seq));
                }
                Taken::Yes => taken = Some((number, seq)),
            }
        }
    }
}

impl Changes {
    fn cut(&mut self, shard: ShardId) {
        self.cut.get_or_insert(shard);
    }

    /// These transactions need not be watched.
    pub(super) fn spare(&mut self, idle: BTreeSet<u64>) {
        self.observed.idle = idle;
    }

    /// Moves the reader on.
    pub(super) fn apply(self, tracker: &mut SnapshotTracker, due: &mut DueTimes, skim: &mut Skim) {
        for (shard, rows, useless) in self.useless {
            skim.after_read(shard, rows, useless);
        }
        for (shard, _) in self.skimmed.into_iter().filter(|&(_, found)| found) {
            skim.found(shard);
        }
        for &(shard, _) in &self.due {
            due.clear(shard);
        }
        for (shard, from) in self.due.into_iter().filter_map(|(shard, from)| Some((shard, from?))).chain(self.waiting) {
            due.add(shard, from);
        }
        tracker.observe(&self.observed);
    }
}
