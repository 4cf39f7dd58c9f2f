//! The full sweep, piece by piece.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::ports::{ReadLimits, ShardId};

use super::{DueFrom, Found, Take, Taken};

/// What a piece should take at most, beyond what the quickest took: its span adapts.
const PIECE: Duration = Duration::from_millis(10);
/// The span, in `seq`, of the first piece, and the least: as many index entries take the server some milliseconds.
const LEAST_SPAN: i64 = 16_384;
/// The most: nobody has more rows than this below a floor, and it does not overflow.
const MOST_SPAN: i64 = 1 << 60;

/// How far the sweep is in each shard; it wraps at the floor.
///
/// A limit of rows alone would not bound a piece: below the floors are mostly entries of deleted rows, which no limit counts. While
/// another session holds an old snapshot they can be neither removed nor skipped, and there may be millions. So a piece covers a
/// span of `seq`, which doubles while pieces are quick and halves when one was slow.
#[derive(Debug)]
pub(crate) struct SweepCursors {
    after: BTreeMap<ShardId, i64>,
    /// The shard that the next piece begins with.
    next: ShardId,
    /// How much of `seq` a piece covers in each shard.
    span: i64,
    /// What the quickest piece took: the way to the server and back.
    quickest: Duration,
}

/// What one piece of the sweep reads.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Ranges `after < seq <= upto`, the shards in their turn.
    pub(crate) ranges: Vec<SweepRange>,
    /// Rows of each range.
    pub(crate) rows: usize,
    /// The first shard that is not in it.
    left_out: Option<ShardId>,
}

/// A range of one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SweepRange {
    pub(crate) shard: ShardId,
    pub(crate) after: i64,
    pub(crate) upto: i64,
    floor: i64,
}

/// How far a piece came.
#[derive(Debug)]
pub(crate) struct Swept {
    after: Vec<(ShardId, i64)>,
    next: ShardId,
    /// Rows that wait.
    pub(crate) waiting: Vec<(ShardId, DueFrom)>,
}

impl Default for SweepCursors {
    fn default() -> Self {
        Self { after: BTreeMap::new(), next: ShardId(0), span: LEAST_SPAN, quickest: Duration::MAX }
    }
}

impl SweepCursors {
    /// The next piece below these floors; `None` when nothing is below any.
    pub(crate) fn piece(&self, floors: impl Iterator<Item = (ShardId, i64)>, limits: &ReadLimits) -> Option<Piece> {
        let mut ranges: Vec<_> = floors
            .filter(|&(_, floor)| floor > 0)
            .map(|(shard, floor)| {
                let after = self.after.get(&shard).copied().filter(|&after| after < floor).unwrap_or(0);
                SweepRange { shard, after, upto: floor.min(after.saturating_add(self.span)), floor }
            })
            .collect();
        let turn = ranges.partition_point(|range| range.shard < self.next);
        ranges.rotate_left(turn);
        let most = limits.rows.max(1);
        let left_out = ranges.get(most).map(|range| range.shard);
        ranges.truncate(most);
        let rows = limits.rows.checked_div(ranges.len())?.max(1);
        Some(Piece { ranges, rows, left_out })
    }

    /// A piece took the server so long.
    pub(crate) fn took(&mut self, time: Duration) {
        self.quickest = self.quickest.min(time);
        self.span =
            if time > self.quickest + PIECE { self.span / 2 } else { self.span * 2 }.clamp(LEAST_SPAN, MOST_SPAN);
    }

    /// The piece's batch is complete: the next one goes on behind it.
    pub(crate) fn advance(&mut self, swept: &Swept) {
        self.after.extend(swept.after.iter().copied());
        self.next = swept.next;
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(ShardId) -> bool) {
        self.after.retain(|&shard, _| keep(shard));
    }
}

impl Piece {
    /// Takes what was found, shard by shard.
    pub(crate) fn sort_out(&self, found: Vec<Found>, take: &mut Take<'_>) -> Swept {
        let mut cursors: BTreeMap<ShardId, (usize, i64, bool)> =
            self.ranges.iter().map(|range| (range.shard, (0, range.after, false))).collect();
        let mut waiting = Vec::new();
        let mut first_stopped = None;
        for found in found {
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
        let mut after = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let (rows, last, stopped) = cursors[&range.shard];
            let cut = stopped || rows >= self.rows;
            let upto = if cut { last } else { range.upto };
            let wraps = upto >= range.floor;
            take.batch.more |= !wraps;
            after.push((range.shard, if wraps { 0 } else { upto }));
        }
        take.batch.more |= self.left_out.is_some();
        Swept { after, next: first_stopped.or(self.left_out).unwrap_or(ShardId(0)), waiting }
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
