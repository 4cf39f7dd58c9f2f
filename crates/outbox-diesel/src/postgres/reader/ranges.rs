//! The ranges below the floors that one read looks at again.

use std::collections::BTreeMap;

use outbox_core::order::{LateRange, Snapshot};
use outbox_core::ports::ShardId;

use super::sql::LateBinds;

/// The late part of a plan, one entry a range with all transactions that it watches.
#[derive(Debug, Default)]
pub(super) struct LateRanges {
    ranges: Vec<Range>,
}

#[derive(Debug)]
struct Range {
    shard: ShardId,
    after: i64,
    upto: i64,
    always: bool,
    watch: Vec<u64>,
}

impl LateRanges {
    pub(super) fn new(late: &[LateRange]) -> Self {
        let mut by_place: BTreeMap<(ShardId, i64, i64), Range> = BTreeMap::new();
        for &LateRange { shard, after, upto, watch } in late {
            let range = by_place.entry((shard, after, upto)).or_insert_with(|| Range {
                shard,
                after,
                upto,
                always: false,
                watch: Vec::new(),
            });
            match watch {
                Some(xid) => range.watch.push(xid),
                None => range.always = true,
            }
        }
        Self { ranges: by_place.into_values().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn binds(&self, parked: bool, limit: usize) -> LateBinds {
        let mut binds = LateBinds { limit: i64::try_from(limit).unwrap_or(i64::MAX), parked, ..LateBinds::default() };
        for (number, range) in (1_i64..).zip(&self.ranges) {
            binds.shards.push(super::shard_column(range.shard));
            binds.after.push(range.after);
            binds.upto.push(range.upto);
            binds.always.push(range.always);
            for xid in &range.watch {
                binds.ranges.push(number);
                binds.xids.push(xid.to_string());
            }
        }
        binds
    }

    /// The range that a row was found in.
    pub(super) fn number(&self, kind: i32) -> Option<usize> {
        usize::try_from(kind).ok().filter(|&number| number < self.ranges.len())
    }

    /// Marks, after a read at `snapshot`, what was not read to its end.
    pub(super) fn progress(&self) -> LateProgress {
        LateProgress { cut_at: vec![None; self.ranges.len()] }
    }
}

/// Where ranges were cut.
#[derive(Debug)]
pub(super) struct LateProgress {
    cut_at: Vec<Option<i64>>,
}

impl LateProgress {
    /// Nothing of this range past `taken` was taken; `None`: nothing of it at all.
    pub(super) fn cut(&mut self, ranges: &LateRanges, number: usize, taken: Option<i64>) {
        let at = taken.unwrap_or(ranges.ranges[number].after);
        let known = self.cut_at[number].get_or_insert(at);
        *known = (*known).min(at);
    }

    /// The statement's row limit was reached in range `last` after `seq`: the ranges behind it were not reached.
    pub(super) fn limit_reached(&mut self, ranges: &LateRanges, last: usize, seq: i64, snapshot: &Snapshot) {
        self.cut(ranges, last, Some(seq));
        for number in last + 1..ranges.ranges.len() {
            let range = &ranges.ranges[number];
            if range.always || range.watch.iter().any(|&xid| snapshot.has_ended(xid)) {
                self.cut(ranges, number, None);
            }
        }
    }

    pub(super) fn is_cut(&self, ranges: &LateRanges, shard: ShardId) -> bool {
        self.cut_at.iter().zip(&ranges.ranges).any(|(cut, range)| cut.is_some() && range.shard == shard)
    }

    pub(super) fn into_cuts(self, ranges: &LateRanges) -> Vec<(LateRange, i64)> {
        let late = |range: &Range| LateRange { shard: range.shard, after: range.after, upto: range.upto, watch: None };
        self.cut_at.iter().zip(&ranges.ranges).filter_map(|(cut, range)| cut.map(|at| (late(range), at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);

    fn ranges() -> LateRanges {
        LateRanges::new(&[
            LateRange { shard: A, after: 0, upto: 10, watch: Some(5) },
            LateRange { shard: A, after: 0, upto: 10, watch: Some(7) },
            LateRange { shard: B, after: 3, upto: 9, watch: None },
            LateRange { shard: B, after: 9, upto: 20, watch: Some(8) },
        ])
    }

    #[test]
    fn a_range_is_asked_for_once_with_all_transactions_that_it_watches() {
        let binds = ranges().binds(false, 100);
        assert_eq!((binds.after, binds.upto), (vec![0, 3, 9], vec![10, 9, 20]));
        assert_eq!(binds.always, [false, true, false]);
        assert_eq!((binds.ranges, binds.xids), (vec![1, 1, 3], vec!["5".into(), "7".into(), "8".into()]));
    }

    #[test]
    fn ranges_that_the_limit_kept_from_being_read_stay_and_unchanged_ones_do_not_count() {
        let ranges = ranges();
        let mut progress = ranges.progress();
        progress.limit_reached(&ranges, 0, 4, &Snapshot { xmax: 8, ..Snapshot::default() });
        assert!(progress.is_cut(&ranges, A) && progress.is_cut(&ranges, B));
        let cuts: Vec<_> = progress.into_cuts(&ranges).into_iter().map(|(range, at)| (range.upto, at)).collect();
        assert_eq!(cuts, [(10, 4), (9, 3)], "the range that watches 8 was not to be read");
    }
}
