//! From the rows of a read to a batch, and to where the next read begins.

use std::collections::BTreeMap;

use outbox_core::order::{HotRange, WatchPlan, WatchRead};
use outbox_core::ports::ShardId;

use super::sql::DUE;
use crate::reading::{DueFrom, DueTimes, Found, Take, Taken};

/// What a read asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: usize,
    pub(super) plan: WatchPlan,
    pub(super) due: Vec<(ShardId, DueFrom)>,
    pub(super) due_limit: usize,
}

/// What a read changes once its batch is complete.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) read: WatchRead,
    /// Shards whose due rows were read, with where the rest of them begins.
    due: Vec<(ShardId, Option<DueFrom>)>,
    waiting: Vec<(ShardId, DueFrom)>,
    /// The first shard that a limit cut.
    pub(super) cut: Option<ShardId>,
}

#[derive(Default)]
struct ShardRows {
    due: Vec<Found>,
    late: Vec<Found>,
    hot: Vec<Found>,
}

impl Asked {
    /// Takes rows within the limits, shard by shard from `first` on. `late` are the rows below the floors that were not returned before,
    /// and `unread` the shards of which there are more of them.
    pub(super) fn sort_out<'l>(
        &self,
        take: Take<'l>,
        found: Vec<Found>,
        late: Vec<Found>,
        unread: &[ShardId],
        first: ShardId,
    ) -> (Take<'l>, Changes) {
        let mut take = take;
        let mut changes = Changes::default();
        let mut shards = by_shard(found, late);
        let mut turns: Vec<_> = self.plan.hot.iter().collect();
        turns.rotate_left(self.plan.hot.partition_point(|range| range.shard < first));
        for range in turns {
            let shard = range.shard;
            let rows = shards.remove(&shard).unwrap_or_default();
            self.take_due(shard, rows.due, &mut take, &mut changes);
            let all = take_late(shard, rows.late, &mut take, &mut changes);
            if all && !unread.contains(&shard) {
                take_hot(range, rows.hot, &mut take, &mut changes);
            } else {
                // What is still to be read below the floor may precede the rows past it.
                take.batch.more = true;
                changes.read.cut.push(shard);
                changes.read.hot.push((shard, range.after, true));
            }
        }
        (take, changes)
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
            changes.read.taken.push((shard, seq));
            rest = full.then_some((wake_at, seq + 1));
        }
        take.batch.more |= full;
        changes.due.push((shard, rest));
    }
}

/// Whether all of them were taken.
fn take_late(shard: ShardId, rows: Vec<Found>, take: &mut Take<'_>, changes: &mut Changes) -> bool {
    for found in rows {
        let seq = found.position().seq;
        match take.row(found) {
            Taken::No => {
                changes.cut(shard);
                return false;
            }
            Taken::Waits(wake_at) => changes.waiting.push((shard, (wake_at, seq))),
            Taken::Yes => {}
        }
        changes.read.taken.push((shard, seq));
    }
    true
}

fn take_hot(range: &HotRange, rows: Vec<Found>, take: &mut Take<'_>, changes: &mut Changes) {
    let (mut top, mut cut) = (range.after, rows.len() >= range.limit);
    for found in rows {
        let seq = found.position().seq;
        match take.row(found) {
            Taken::No => {
                changes.cut(range.shard);
                cut = true;
                break;
            }
            Taken::Waits(wake_at) => changes.waiting.push((range.shard, (wake_at, seq))),
            Taken::Yes => {}
        }
        changes.read.taken.push((range.shard, seq));
        top = seq;
    }
    take.batch.more |= cut;
    changes.read.hot.push((range.shard, top, cut));
}

fn by_shard(found: Vec<Found>, late: Vec<Found>) -> BTreeMap<ShardId, ShardRows> {
    let mut shards: BTreeMap<ShardId, ShardRows> = BTreeMap::new();
    for row in found {
        let rows = shards.entry(row.position().shard).or_default();
        if row.kind == DUE { rows.due.push(row) } else { rows.hot.push(row) }
    }
    for row in late {
        shards.entry(row.position().shard).or_default().late.push(row);
    }
    for rows in shards.values_mut() {
        rows.late.sort_by_key(|row| row.position().seq);
    }
    shards
}

impl Changes {
    fn cut(&mut self, shard: ShardId) {
        self.cut.get_or_insert(shard);
    }

    /// Tells when rows wait, `next_due` being what the read found past the clock.
    pub(super) fn apply_due(self, due: &mut DueTimes, next_due: Vec<(ShardId, i64)>) -> WatchRead {
        for (shard, rest) in self.due {
            due.clear(shard);
            if let Some(from) = rest {
                due.add(shard, from);
            }
        }
        for (shard, wake_at) in next_due {
            due.add(shard, (wake_at, 0));
        }
        for (shard, from) in self.waiting {
            due.add(shard, from);
        }
        self.read
    }
}
