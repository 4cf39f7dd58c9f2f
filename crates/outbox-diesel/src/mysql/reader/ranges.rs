//! Which ranges of `seq` a statement covers: shards that are at the same place share one.
//!
//! Everything is read by the index on `seq` alone, and nothing by shard. MariaDB 10 does not check where a range ends while it skips
//! rows that are deleted and not purged, so a range of (shard, seq) runs on through those of all shards behind it. Past the floors in
//! `seq` there is nothing to run through. It is also one range for the server to plan and not 64.

use std::collections::BTreeMap;

use outbox_core::order::{Look, WatchPlan};
use outbox_core::ports::ShardId;

use super::returned::Returned;

/// `after < seq`, and `seq <= upto` when that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) after: i64,
    pub(super) upto: Option<i64>,
    /// Ascending.
    pub(super) shards: Vec<ShardId>,
    /// Rows.
    pub(super) limit: usize,
}

impl Range {
    pub(super) fn holds(&self, shard: ShardId, seq: i64) -> bool {
        self.after < seq && self.upto.is_none_or(|upto| seq <= upto) && self.shards.binary_search(&shard).is_ok()
    }

    /// Whether so many of these rows lie in it as it was limited to.
    pub(super) fn is_filled_by(&self, rows: &[(ShardId, i64)]) -> bool {
        rows.iter().filter(|&&(shard, seq)| self.holds(shard, seq)).count() >= self.limit
    }
}

/// What lies past the floors; together about so many rows.
pub(super) fn past_the_floors(plan: &WatchPlan, rows: usize) -> Vec<Range> {
    let mut groups: BTreeMap<i64, Vec<ShardId>> = BTreeMap::new();
    for range in &plan.hot {
        groups.entry(range.after).or_default().push(range.shard);
    }
    let limit = (rows / groups.len().max(1)).max(1);
    groups.into_iter().map(|(after, shards)| Range { after, upto: None, shards, limit }).collect()
}

/// What is read again below the floors, without what was returned at the ends of a range. Each finds so many rows that were not
/// returned.
pub(super) fn again(plan: &WatchPlan, rows: usize, returned: &Returned) -> Vec<Range> {
    let mut groups: BTreeMap<(i64, i64), (Vec<ShardId>, usize)> = BTreeMap::new();
    for range in &plan.again {
        let (shards, known) = groups.entry((range.after, range.upto)).or_default();
        shards.push(range.shard);
        *known += range.known;
    }
    let range = |((after, upto), (shards, known)): ((i64, i64), (Vec<ShardId>, usize))| {
        Range { after, upto: Some(upto), shards, limit: known + rows }.narrowed(returned)
    };
    groups.into_iter().filter_map(range).collect()
}

/// What a look lists, in as few ranges as can be, each with those that it stands for.
pub(super) fn looked_at(look: &Look, returned: &Returned) -> Vec<(Range, Vec<Range>)> {
    let mut groups: BTreeMap<(i64, i64), Vec<Range>> = BTreeMap::new();
    for range in &look.ranges {
        let alone = Range { after: range.after, upto: Some(range.upto), shards: vec![range.shard], limit: range.limit };
        groups.entry((range.after, range.upto)).or_default().push(alone);
    }
    let together = |((after, upto), parts): ((i64, i64), Vec<Range>)| {
        let shards = parts.iter().flat_map(|part| part.shards.iter().copied()).collect();
        let limit = parts.iter().map(|part| part.limit).sum();
        let range = Range { after, upto: Some(upto), shards, limit }.narrowed(returned)?;
        Some((range, parts))
    };
    groups.into_iter().filter_map(together).collect()
}

impl Range {
    /// The range without what was returned at its ends.
    fn narrowed(self, returned: &Returned) -> Option<Self> {
        let (after, upto) = returned.missing(self.after, self.upto?)?;
        Some(Self { after, upto: Some(upto), ..self })
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::order::{Again, HotRange};

    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);
    const C: ShardId = ShardId(3);

    #[test]
    fn shards_at_the_same_place_are_one_range() {
        let hot = |shard, after| HotRange { shard, after, limit: 1 };
        let plan = WatchPlan { hot: vec![hot(A, 10), hot(B, 0), hot(C, 10)], ..WatchPlan::default() };
        let range = |after, shards: &[ShardId]| Range { after, upto: None, shards: shards.to_vec(), limit: 50 };
        assert_eq!(past_the_floors(&plan, 100), [range(0, &[B]), range(10, &[A, C])]);
    }

    #[test]
    fn what_is_read_again_leaves_out_what_was_returned_at_its_ends() {
        let again = |shard, after, known| Again { shard, after, upto: 20, known };
        let plan = WatchPlan { again: vec![again(A, 10, 3), again(B, 10, 2), again(C, 15, 1)], ..WatchPlan::default() };
        let mut returned = Returned::default();
        [11, 12, 20].into_iter().for_each(|seq| returned.add(seq));
        let range = |after, shards: &[ShardId], limit| Range { after, upto: Some(19), shards: shards.to_vec(), limit };
        assert_eq!(super::again(&plan, 100, &returned), [range(12, &[A, B], 105), range(15, &[C], 101)]);
        (13..20).for_each(|seq| returned.add(seq));
        assert_eq!(super::again(&plan, 100, &returned), []);
    }
}
