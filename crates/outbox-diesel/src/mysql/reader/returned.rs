use std::collections::BTreeMap;

/// The numbers of rows that were returned, of all shards, as runs: `seq` is unique in the table, so a number that was returned stands
/// for no other row, and a run without a hole holds nothing that could still be committed.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// The last number of each run, by its first.
    runs: BTreeMap<i64, i64>,
}

impl Returned {
    pub(super) fn add(&mut self, seq: i64) {
        let mut first = seq;
        if let Some((start, last)) = self.run_before(seq) {
            if last >= seq {
                return;
            }
            if last == seq - 1 {
                first = start;
            }
        }
        let last = self.runs.remove(&(seq + 1)).unwrap_or(seq);
        self.runs.insert(first, last);
    }

    /// The least `after < seq <= upto` in this one that holds every number that was not returned; `None` when all were.
    pub(super) fn missing(&self, after: i64, upto: i64) -> Option<(i64, i64)> {
        let after = self.run_before(after + 1).map_or(after, |(_, last)| last.max(after));
        let upto = self.run_before(upto).filter(|&(_, last)| last >= upto).map_or(upto, |(first, _)| first - 1);
        (after < upto).then_some((after, upto))
    }

    /// Forgets what lies at or below `after`.
    pub(super) fn forget(&mut self, after: i64) {
        let mut kept = self.runs.split_off(&(after + 1));
        if let Some((_, last)) = self.run_before(after).filter(|&(_, last)| last > after) {
            kept.insert(after + 1, last);
        }
        self.runs = kept;
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// The last run that begins at or before `seq`.
    fn run_before(&self, seq: i64) -> Option<(i64, i64)> {
        self.runs.range(..=seq).next_back().map(|(&first, &last)| (first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seqs: impl IntoIterator<Item = i64>) -> Returned {
        let mut returned = Returned::default();
        seqs.into_iter().for_each(|seq| returned.add(seq));
        returned
    }

    #[test]
    fn a_run_without_a_hole_misses_nothing_in_whatever_order_it_came() {
        let returned = of([3, 1, 2, 5, 4, 3]);
        assert_eq!(returned.runs.len(), 1);
        assert_eq!(returned.missing(0, 5), None);
        assert_eq!(returned.missing(2, 4), None);
        assert_eq!(returned.missing(0, 7), Some((5, 7)));
    }

    #[test]
    fn holes_are_missing_with_what_lies_between_them() {
        let returned = of([1, 2, 4, 6, 7]);
        assert_eq!(returned.missing(0, 7), Some((2, 5)));
        assert_eq!(returned.missing(3, 7), Some((4, 5)));
        assert_eq!(returned.missing(7, 9), Some((7, 9)));
        assert_eq!(of([]).missing(7, 9), Some((7, 9)));
    }

    #[test]
    fn what_is_below_is_forgotten_and_the_rest_is_not() {
        let mut returned = of([1, 2, 3, 4, 9]);
        returned.forget(2);
        assert_eq!(returned.missing(0, 4), Some((0, 2)));
        assert_eq!(returned.missing(2, 4), None);
        assert_eq!(returned.missing(8, 9), None);
        returned.clear();
        assert_eq!(returned.missing(2, 4), Some((2, 4)));
    }

    #[test]
    fn every_number_that_was_not_returned_is_missing() {
        for bits in 0..1_u32 << 8 {
            let is_in = |seq: i64| bits & (1 << (seq - 1)) != 0;
            let returned = of((1..=8).filter(|&seq| is_in(seq)));
            for (after, upto) in (0..8).flat_map(|after| (after + 1..=8).map(move |upto| (after, upto))) {
                let missing = returned.missing(after, upto);
                let inside = |seq| missing.is_some_and(|(after, upto)| after < seq && seq <= upto);
                assert!((after + 1..=upto).all(|seq| is_in(seq) || inside(seq)), "{bits:b} {after} {upto}");
            }
        }
    }
}
