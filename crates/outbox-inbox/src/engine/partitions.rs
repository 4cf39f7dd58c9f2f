use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use outbox_core::inbox::{Acknowledging, Partition};

use super::work::AssignmentId;

/// A partition that this inbox has, and what of it is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) id: Arc<AssignmentId>,
    /// Everything up to here was consumed before: the first message must come from beyond. `None`: it did, or nothing is known.
    pub(super) consumed: Option<i64>,
    pub(super) is_paused: bool,
    /// Delivered positions in their order, from the first that is not done, with whether they are.
    open: VecDeque<(i64, bool)>,
    /// Messages in transactions that are open.
    pub(super) running: usize,
}

impl Assignment {
    pub(super) fn new(number: u64, consumed: Option<i64>) -> Self {
        Self { id: AssignmentId::new(number), consumed, is_paused: false, open: VecDeque::new(), running: 0 }
    }

    pub(super) fn delivered(&mut self, position: i64) {
        self.open.push_back((position, false));
    }

    /// A message is done. Returns what can be acknowledged now: with `Cumulative` the last of the contiguous run that is done.
    pub(super) fn done(&mut self, position: i64, acknowledging: Acknowledging, over_gaps: bool) -> Option<i64> {
        let index = self.open.partition_point(|(other, _)| *other < position);
        let entry = self.open.get_mut(index).filter(|(other, _)| *other == position)?;
        entry.1 = true;
        let mut contiguous = None;
        while let Some((first, true)) = self.open.front() {
            contiguous = Some(*first);
            self.open.pop_front();
        }
        match acknowledging {
            Acknowledging::Individual => Some(position),
            Acknowledging::Cumulative if over_gaps => Some(position),
            Acknowledging::Cumulative => contiguous,
        }
    }

    /// Messages from the first that is not done: what the partition costs in memory.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// The partitions that this inbox has.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    pub(super) map: BTreeMap<Partition, Assignment>,
    assigned: u64,
}

impl Partitions {
    pub(super) fn assign(&mut self, partition: Partition, consumed: Option<i64>) {
        self.assigned += 1;
        let new = Assignment::new(self.assigned, consumed);
        if let Some(old) = self.map.insert(partition, new) {
            old.id.end();
        }
    }

    /// The assignment that a message came by, if it is still the partition's.
    pub(super) fn current(&mut self, partition: &Partition, id: &AssignmentId) -> Option<&mut Assignment> {
        self.map.get_mut(partition).filter(|assignment| assignment.id.number == id.number)
    }

    /// Forgets partitions; how many of them were there.
    pub(super) fn forget(&mut self, partitions: &[Partition]) -> usize {
        let gone = partitions.iter().filter_map(|partition| self.map.remove(partition));
        gone.inspect(|assignment| assignment.id.end()).count()
    }

    pub(super) fn forget_all(&mut self) -> usize {
        let all: Vec<_> = self.map.keys().cloned().collect();
        self.forget(&all)
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.map.values().map(Assignment::len).sum()
    }

    pub(super) fn is_running(&self, partitions: &[Partition]) -> bool {
        partitions.iter().filter_map(|partition| self.map.get(partition)).any(|assignment| assignment.running > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_contiguous_run_is_acknowledged() {
        let mut assignment = Assignment::new(1, None);
        for position in [3, 5, 6, 9] {
            assignment.delivered(position); // positions may have gaps
        }
        let mut done = |position| assignment.done(position, Acknowledging::Cumulative, false);
        assert_eq!(done(5), None);
        assert_eq!(done(3), Some(5));
        assert_eq!(done(9), None);
        assert_eq!(done(6), Some(9));
        assert_eq!(done(6), None, "a second time changes nothing");
        assert_eq!(assignment.len(), 0);
    }

    #[test]
    fn messages_are_acknowledged_each_where_the_source_wants_that() {
        let mut assignment = Assignment::new(1, None);
        assignment.delivered(1);
        assignment.delivered(2);
        assert_eq!(assignment.done(2, Acknowledging::Individual, false), Some(2));
        assert_eq!(assignment.len(), 2, "the gap still costs memory");
        assert_eq!(assignment.done(1, Acknowledging::Individual, false), Some(1));
        assert_eq!(assignment.len(), 0);
    }
}
