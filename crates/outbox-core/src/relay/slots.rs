use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::given_up::GivenUp;
use super::lanes::Entry;
use super::routes::RouteId;
use crate::message::LaneKey;
use crate::ports::{ShardId, Slot};

/// The partitions or queues of one session, each with the entries that wait for it.
#[derive(Debug)]
pub(super) struct Slots {
    all: Vec<SlotQueue>,
    by_slot: FxHashMap<Slot, usize>,
    /// The most that one slot may have in flight: its share of the window, so that a sick one cannot take all.
    share: usize,
    first_alone: bool,
    sick: usize,
}

#[derive(Debug)]
pub(super) struct SlotQueue {
    pub(super) slot: Slot,
    pub(super) route: RouteId,
    pub(super) queue: VecDeque<Entry>,
    in_flight: usize,
    state: SlotState,
    /// When the slot last had nothing in flight or an outcome.
    progress_at: Option<Instant>,
    /// It holds its share and confirms nothing: what comes for it is given up until it confirms something.
    sick: bool,
    given_up: GivenUp,
}

/// How long a slot that holds its share of the window may confirm nothing before what waits for it is given up.
const SICK_AFTER: Duration = Duration::from_millis(500);

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
        Self { all: Vec::new(), by_slot: FxHashMap::default(), share: share.max(1), first_alone, sick: 0 }
    }

    /// Queues an entry. `Err`: its slot is sick; the entry is noted there and must be given up.
    pub(super) fn push(&mut self, slot: Slot, entry: Entry) -> Result<(), Entry> {
        let next = self.all.len();
        let index = *self.by_slot.entry(slot).or_insert(next);
        if index == next {
            self.all.push(SlotQueue::new(slot, entry.route, self.first_alone));
        }
        let queue = &mut self.all[index];
        if queue.sick {
            queue.given_up.add(entry.message.shard, entry.message.seq, entry.lane);
            return Err(entry);
        }
        queue.queue.push_back(entry);
        Ok(())
    }

    /// Takes entries that may be sent now, at most `limit`, with their slots.
    pub(super) fn take(&mut self, mut limit: usize, now: Instant, mut each: impl FnMut(Slot, Entry)) {
        for queue in &mut self.all {
            while limit > 0 && queue.may_send(self.share) {
                let Some(entry) = queue.queue.pop_front() else { break };
                if entry.alone {
                    queue.state = SlotState::Alone;
                }
                if queue.in_flight == 0 {
                    queue.progress_at = Some(now);
                }
                queue.in_flight += 1;
                limit -= 1;
                each(queue.slot, entry);
            }
        }
    }

    /// A message of the slot has its outcome. `Some`: the slot was sick and is well again; what was given up for it can be
    /// read again.
    pub(super) fn closed_one(&mut self, slot: Slot, published: bool) -> Option<GivenUp> {
        let queue = &mut self.all[*self.by_slot.get(&slot)?];
        queue.in_flight = queue.in_flight.saturating_sub(1);
        queue.progress_at = None;
        match queue.state {
            SlotState::Fresh if published => queue.state = SlotState::Open,
            SlotState::Alone if queue.in_flight == 0 => {
                queue.state = if published { SlotState::Open } else { SlotState::Fresh };
            }
            _ => {}
        }
        if queue.sick && (published || queue.in_flight == 0) {
            self.sick -= 1;
            queue.sick = false;
            return Some(std::mem::take(&mut queue.given_up));
        }
        None
    }

    /// Marks the slots that hold their share and have confirmed nothing for a while, and gives up what waits for them.
    pub(super) fn find_sick(&mut self, now: Instant, mut each: impl FnMut(Entry)) {
        let share = self.share;
        for queue in self.all.iter_mut().filter(|queue| !queue.sick && queue.load() >= share && queue.in_flight > 0) {
            let since = *queue.progress_at.get_or_insert(now);
            if now.duration_since(since) >= SICK_AFTER {
                queue.sick = true;
                self.sick += 1;
                for entry in queue.queue.drain(..) {
                    queue.given_up.add(entry.message.shard, entry.message.seq, entry.lane);
                    each(entry);
                }
            }
        }
    }

    /// When a slot that holds its share may have to be called sick.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let full = self.all.iter().filter(|queue| !queue.sick && queue.load() >= self.share);
        full.filter_map(|queue| queue.progress_at).min().map(|since| since + SICK_AFTER)
    }

    /// The sick slot that a key waits for.
    pub(super) fn waits_for(&self, lane: LaneKey) -> Option<Slot> {
        if self.sick == 0 {
            return None;
        }
        self.all.iter().find(|queue| queue.given_up.holds(lane)).map(|queue| queue.slot)
    }

    /// Notes a message that was given up for a sick slot.
    pub(super) fn give_up(&mut self, slot: Slot, shard: ShardId, seq: i64, lane: Option<LaneKey>) {
        if let Some(&index) = self.by_slot.get(&slot) {
            self.all[index].given_up.add(shard, seq, lane);
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

    /// Takes everything that waits for a route, and makes its slots fresh: after the pause one message goes first. Returns
    /// what was given up for those that were sick.
    pub(super) fn purge_route(&mut self, route: RouteId, mut each: impl FnMut(Entry)) -> GivenUp {
        let mut given_up = GivenUp::default();
        for queue in self.all.iter_mut().filter(|queue| queue.route == route) {
            queue.queue.drain(..).for_each(&mut each);
            queue.state = SlotState::Fresh;
            given_up.merge(std::mem::take(&mut queue.given_up));
            self.sick -= usize::from(std::mem::take(&mut queue.sick));
        }
        given_up
    }

    /// Takes everything that waits. Returns where to read again what was given up.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Entry)) -> Vec<(ShardId, i64)> {
        let mut given_up = GivenUp::default();
        for queue in &mut self.all {
            queue.queue.drain(..).for_each(&mut each);
            given_up.merge(std::mem::take(&mut queue.given_up));
        }
        given_up.into_rewinds()
    }
}

impl SlotQueue {
    fn new(slot: Slot, route: RouteId, first_alone: bool) -> Self {
        let state = if first_alone { SlotState::Fresh } else { SlotState::Open };
        let (queue, given_up) = (VecDeque::new(), GivenUp::default());
        Self { slot, route, queue, in_flight: 0, state, progress_at: None, sick: false, given_up }
    }

    /// What of the window it holds.
    fn load(&self) -> usize {
        self.in_flight + self.queue.len()
    }

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
        slots.take(100, Instant::now(), |_, entry| seqs.push(entry.message.seq));
        seqs
    }

    #[test]
    fn the_first_message_of_a_slot_goes_alone_until_it_is_confirmed() {
        let mut slots = Slots::new(10, true);
        for seq in 1..=3 {
            slots.push(Slot(7), entry(seq, "a")).unwrap();
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
            slots.push(Slot(1), entry(seq, "a")).unwrap();
        }
        slots.push(Slot(2), entry(9, "b")).unwrap();
        assert_eq!(taken(&mut slots), [1, 2, 9]);
    }

    #[test]
    fn a_quarantined_message_is_alone_in_its_slot() {
        let mut slots = Slots::new(10, false);
        slots.push(Slot(1), entry(1, "a")).unwrap();
        let mut suspect = entry(2, "a");
        suspect.alone = true;
        slots.push(Slot(1), suspect).unwrap();
        slots.push(Slot(1), entry(3, "a")).unwrap();
        assert_eq!(taken(&mut slots), [1]);
        slots.closed_one(Slot(1), true);
        assert_eq!(taken(&mut slots), [2]);
        slots.closed_one(Slot(1), true);
        assert_eq!(taken(&mut slots), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_confirms_nothing_gives_up_what_waits_until_it_confirms_something() {
        let mut slots = Slots::new(2, false);
        for seq in 1..=4 {
            slots.push(Slot(1), entry(seq, "a")).unwrap();
        }
        assert_eq!(taken(&mut slots), [1, 2]);
        let mut given_up = Vec::new();
        slots.find_sick(Instant::now(), |entry| given_up.push(entry.message.seq));
        assert_eq!(given_up, [0; 0], "not yet");
        tokio::time::advance(SICK_AFTER).await;
        slots.find_sick(Instant::now(), |entry| given_up.push(entry.message.seq));
        assert_eq!(given_up, [3, 4]);
        assert!(slots.push(Slot(1), entry(5, "a")).is_err());
        let lane = entry(1, "a").lane.unwrap();
        assert_eq!(slots.waits_for(lane), Some(Slot(1)));
        let again = slots.closed_one(Slot(1), true).expect("it is well again").into_rewinds();
        assert_eq!(again, [(ShardId(0), 3)]);
        assert_eq!(slots.waits_for(lane), None);
    }
}
