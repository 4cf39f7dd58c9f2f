use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::lanes::Entry;
use super::routes::RouteId;
use crate::message::LaneKey;
use crate::ports::Slot;

/// The partitions or queues of one session, each with the entries that wait for it.
#[derive(Debug)]
pub(super) struct Slots {
    all: Vec<SlotQueue>,
    by_slot: FxHashMap<Slot, usize>,
    /// The most that one slot may have in flight: its share of the window, so that a sick one cannot take all.
    share: usize,
    first_alone: bool,
}

#[derive(Debug)]
pub(super) struct SlotQueue {
    pub(super) slot: Slot,
    pub(super) route: RouteId,
    pub(super) queue: VecDeque<Entry>,
    in_flight: usize,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// Nothing was confirmed yet in this session: one message goes alone.
    Fresh,
    /// Everything goes, up to the share.
    Open,
    /// A quarantined message is in flight alone.
    Alone,
}

impl Slots {
    pub(super) fn new(share: usize, first_alone: bool) -> Self {
        Self { all: Vec::new(), by_slot: FxHashMap::default(), share: share.max(1), first_alone }
    }

    pub(super) fn push(&mut self, slot: Slot, entry: Entry) {
        let next = self.all.len();
        let index = *self.by_slot.entry(slot).or_insert(next);
        if index == next {
            let state = if self.first_alone { SlotState::Fresh } else { SlotState::Open };
            self.all.push(SlotQueue { slot, route: entry.route, queue: VecDeque::new(), in_flight: 0, state });
        }
        self.all[index].queue.push_back(entry);
    }

    /// Takes entries that may be sent now, at most `limit`, with their slots.
    pub(super) fn take(&mut self, mut limit: usize, mut each: impl FnMut(Slot, Entry)) {
        for queue in &mut self.all {
            while limit > 0 && queue.may_send(self.share) {
                let Some(entry) = queue.queue.pop_front() else { break };
                if entry.alone {
                    queue.state = SlotState::Alone;
                }
                queue.in_flight += 1;
                limit -= 1;
                each(queue.slot, entry);
            }
        }
    }

    /// A message of the slot has its outcome.
    pub(super) fn closed_one(&mut self, slot: Slot, published: bool) {
        let Some(&index) = self.by_slot.get(&slot) else { return };
        let queue = &mut self.all[index];
        queue.in_flight = queue.in_flight.saturating_sub(1);
        match queue.state {
            SlotState::Fresh if published => queue.state = SlotState::Open,
            SlotState::Alone if queue.in_flight == 0 => {
                queue.state = if published { SlotState::Open } else { SlotState::Fresh };
            }
            _ => {}
        }
    }

    /// Takes the waiting entries of a lane out of a slot.
    pub(super) fn purge_lane(&mut self, route: RouteId, lane: LaneKey, mut each: impl FnMut(Entry)) {
        for queue in self.all.iter_mut().filter(|queue| queue.route == route) {
            queue.queue.retain(|entry| {
                let keep = entry.lane != Some(lane);
                if !keep {
                    each(entry.clone());
                }
                keep
            });
        }
    }

    /// Takes everything that waits for a route, and makes its slots fresh: after the pause one message goes first.
    pub(super) fn purge_route(&mut self, route: RouteId, mut each: impl FnMut(Entry)) {
        for queue in self.all.iter_mut().filter(|queue| queue.route == route) {
            queue.queue.drain(..).for_each(&mut each);
            queue.state = SlotState::Fresh;
        }
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self, each: impl FnMut(Entry)) {
        self.all.iter_mut().flat_map(|queue| queue.queue.drain(..)).for_each(each);
    }
}

impl SlotQueue {
    fn may_send(&self, share: usize) -> bool {
        match self.state {
            SlotState::Fresh => self.in_flight == 0,
            SlotState::Alone => false,
            SlotState::Open => {
                self.in_flight < share && (self.in_flight == 0 || !self.queue.front().is_some_and(|entry| entry.alone))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::lanes::tests::entry;

    fn taken(slots: &mut Slots) -> Vec<i64> {
        let mut seqs = Vec::new();
        slots.take(100, |_, entry| seqs.push(entry.message.seq));
        seqs
    }

    #[test]
    fn the_first_message_of_a_slot_goes_alone_until_it_is_confirmed() {
        let mut slots = Slots::new(10, true);
        for seq in 1..=3 {
            slots.push(Slot(7), entry(seq, "a"));
        }
        assert_eq!(taken(&mut slots), [1]);
        assert_eq!(taken(&mut slots), [0; 0]);
        slots.closed_one(Slot(7), false);
        assert_eq!(taken(&mut slots), [2], "a failure proves nothing");
        slots.closed_one(Slot(7), true);
        assert_eq!(taken(&mut slots), [3]);
    }

    #[test]
    fn a_sick_slot_holds_only_its_share() {
        let mut slots = Slots::new(2, false);
        for seq in 1..=5 {
            slots.push(Slot(1), entry(seq, "a"));
        }
        slots.push(Slot(2), entry(9, "b"));
        assert_eq!(taken(&mut slots), [1, 2, 9]);
    }

    #[test]
    fn a_quarantined_message_is_alone_in_its_slot() {
        let mut slots = Slots::new(10, false);
        slots.push(Slot(1), entry(1, "a"));
        let mut suspect = entry(2, "a");
        suspect.alone = true;
        slots.push(Slot(1), suspect);
        slots.push(Slot(1), entry(3, "a"));
        assert_eq!(taken(&mut slots), [1]);
        slots.closed_one(Slot(1), true);
        assert_eq!(taken(&mut slots), [2]);
        slots.closed_one(Slot(1), true);
        assert_eq!(taken(&mut slots), [3]);
    }
}
