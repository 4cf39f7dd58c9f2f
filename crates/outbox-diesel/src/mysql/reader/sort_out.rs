//! From the rows of a read to a batch, and to where the next read begins.

use std::collections::{BTreeMap, BTreeSet};

use outbox_core::order::{WatchPlan, WatchRead};
use outbox_core::ports::ShardId;

use super::ranges::Range;
use super::sql::DUE;
use crate::reading::{DueFrom, DueTimes, Found, Take, Taken};

/// What a read asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: usize,
    pub(super) plan: WatchPlan,
    /// Past the floors.
    pub(super) hot: Vec<Range>,
    /// Below the floors.
    pub(super) again: Vec<Range>,
    pub(super) due: Option<Due>,
}

/// Rows that waited.
#[derive(Debug)]
pub(super) struct Due {
    /// Where they begin. The shards need not all have come so far: a row that was returned may be returned again.
    pub(super) from: DueFrom,
    /// With their floors: what lies past one is found when the reads come to it, after what it follows.
    floors: BTreeMap<ShardId, i64>,
    /// The same, ascending.
    pub(super) shards: Vec<ShardId>,
    pub(super) limit: usize,
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

impl Due {
    /// Rows of these shards, each with where they begin and with its floor.
    pub(super) fn of(shards: impl Iterator<Item = (ShardId, DueFrom, i64)>, limit: usize) -> Option<Self> {
        let mut from: Option<DueFrom> = None;
        let mut floors = BTreeMap::new();
        for (shard, begins, floor) in shards {
            from = Some(from.map_or(begins, |from| from.min(begins)));
            floors.insert(shard, floor);
        }
        from.map(|from| Self { from, shards: floors.keys().copied().collect(), floors, limit })
    }
}

impl Asked {
    /// Takes rows within the limits: what is due, what lies below the floors, and then what lies past them. `late` are the rows below the
    /// floors that were not returned before, and `unread` the shards of which there are more of them. Every number up to `drawn` had been
    /// drawn before the read. What a limit cut in the last read, the one of the shard `first`, is served first.
    pub(super) fn sort_out<'l>(
        &self,
        take: Take<'l>,
        found: Vec<Found>,
        late: Vec<Found>,
        unread: &[ShardId],
        drawn: Option<i64>,
        first: ShardId,
    ) -> (Take<'l>, Changes) {
        let mut take = take;
        let mut changes = Changes::default();
        let (due, hot): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.kind == DUE);
        if let Some(asked) = &self.due {
            take_due(asked, due, &mut take, &mut changes);
        }
        let mut behind = take_late(late, first, &mut take, &mut changes);
        behind.extend(unread);
        take.batch.more |= !behind.is_empty();
        let mut ranges = self.by_range(hot);
        let turn = ranges.iter().position(|(range, _)| range.shards.contains(&first)).unwrap_or(0);
        ranges.rotate_left(turn);
        for (range, rows) in ranges {
            take_hot(range, rows, &behind, drawn, &mut take, &mut changes);
        }
        changes.read.cut.extend(behind);
        (take, changes)
    }

    /// The rows past the floors by range; each range has shards of its own.
    fn by_range(&self, rows: Vec<Found>) -> Vec<(&Range, Vec<Found>)> {
        let mut ranges: Vec<(&Range, Vec<Found>)> = self.hot.iter().map(|range| (range, Vec::new())).collect();
        for row in rows {
            let shard = row.position().shard;
            let of_it = |(range, _): &&mut (&Range, Vec<Found>)| range.shards.binary_search(&shard).is_ok();
            if let Some((_, rows)) = ranges.iter_mut().find(of_it) {
                rows.push(row);
            }
        }
        for (_, rows) in &mut ranges {
            rows.sort_by_key(|row| row.position().seq);
        }
        ranges
    }
}

fn take_due(asked: &Due, rows: Vec<Found>, take: &mut Take<'_>, changes: &mut Changes) {
    let mut rest = None;
    let full = rows.len() >= asked.limit;
    for found in rows {
        let (wake_at, position) = (found.wake_at.unwrap_or(i64::MIN), found.position());
        if asked.floors.get(&position.shard).is_some_and(|&floor| position.seq <= floor) {
            if take.row(found) == Taken::No {
                changes.cut(position.shard);
                rest = Some((wake_at, position.seq));
                take.batch.more = true;
                break;
            }
            changes.read.taken.push((position.shard, position.seq));
        }
        rest = full.then_some((wake_at, position.seq + 1));
    }
    take.batch.more |= full;
    changes.due.extend(asked.shards.iter().map(|&shard| (shard, rest)));
}

/// The shards of which not all were taken.
fn take_late(late: Vec<Found>, first: ShardId, take: &mut Take<'_>, changes: &mut Changes) -> BTreeSet<ShardId> {
    let mut late = late;
    late.sort_by_key(|row| (row.position().shard < first, row.position().shard, row.position().seq));
    let mut behind = BTreeSet::new();
    for found in late {
        let (shard, seq) = (found.position().shard, found.position().seq);
        if behind.contains(&shard) {
            continue;
        }
        match take.row(found) {
            Taken::No => {
                changes.cut(shard);
                behind.insert(shard);
                continue;
            }
            Taken::Waits(wake_at) => changes.waiting.push((shard, (wake_at, seq))),
            Taken::Yes => {}
        }
        changes.read.taken.push((shard, seq));
    }
    behind
}

/// Of a shard that is `behind`, what is still to be read below its floor may precede the rows past it: they stay where they are, and
/// so does its floor. The others of the range go on without it.
fn take_hot(
    range: &Range,
    rows: Vec<Found>,
    behind: &BTreeSet<ShardId>,
    drawn: Option<i64>,
    take: &mut Take<'_>,
    changes: &mut Changes,
) {
    let (mut top, mut cut) = (range.after, rows.len() >= range.limit);
    for found in rows {
        let (shard, seq) = (found.position().shard, found.position().seq);
        if !behind.contains(&shard) {
            match take.row(found) {
                Taken::No => {
                    changes.cut(shard);
                    cut = true;
                    break;
                }
                Taken::Waits(wake_at) => changes.waiting.push((shard, (wake_at, seq))),
                Taken::Yes => {}
            }
            changes.read.taken.push((shard, seq));
        }
        top = seq;
    }
    if !cut {
        top = top.max(drawn.unwrap_or(top));
    }
    take.batch.more |= cut;
    let place = |&shard| if behind.contains(&shard) { (shard, range.after, true) } else { (shard, top, cut) };
    changes.read.hot.extend(range.shards.iter().map(place));
}

impl Changes {
    fn cut(&mut self, shard: ShardId) {
        self.cut.get_or_insert(shard);
    }

    /// Tells when rows wait. `next_due` is the first that the read found past the clock, of any of the shards that it asked for.
    pub(super) fn apply_due(self, due: &mut DueTimes, next_due: Option<i64>) -> WatchRead {
        for (shard, rest) in self.due {
            due.clear(shard);
            if let Some(from) = rest {
                due.add(shard, from);
            }
            if let Some(wake_at) = next_due {
                due.add(shard, (wake_at, 0));
            }
        }
        for (shard, from) in self.waiting {
            due.add(shard, from);
        }
        self.read
    }
}
