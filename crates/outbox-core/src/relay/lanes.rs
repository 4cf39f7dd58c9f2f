use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::routes::RouteId;
use crate::message::{LaneKey, Message};
use crate::ports::{LaneOrdering, ShardId};

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    pub(super) lane: Option<LaneKey>,
    pub(super) route: RouteId,
    /// It was in a quarantine: nothing else of its slot may be in flight with it.
    pub(super) alone: bool,
}

/// One ordering key: what of it is on its way, and what keeps it from going on.
#[derive(Debug)]
pub(super) struct Lane {
    /// Entries that are queued for the transport or in flight; all for `route`.
    pub(super) open: u32,
    pub(super) route: RouteId,
    /// Entries that wait for `open` to become 0 (another route) or for a confirm (one in flight).
    pub(super) deferred: VecDeque<Entry>,
    pub(super) block: Option<Box<Block>>,
}

/// A key that may not go on. Its followers are not held in memory: they are read again from `rewind_from`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) wait: Wait,
    pub(super) shard: ShardId,
    pub(super) rewind_from: i64,
    /// The failed message at its head.
    pub(super) head: Option<i64>,
}

/// What ends a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing but the entries that are still in flight.
    Release,
    /// The database's word on a failure.
    Commit,
    /// The head's next attempt: the storage returns it when it is due.
    Retry,
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) map: FxHashMap<LaneKey, Lane>,
    pub(super) blocked: usize,
}

impl Lanes {
    /// Lets an entry into its lane. `Some`: it goes to its route now; `None`: it was put aside until the lane is free.
    pub(super) fn admit(&mut self, entry: Entry, ordering: LaneOrdering) -> Option<Entry> {
        let Some(key) = entry.lane else { return Some(entry) };
        let lane = self.map.entry(key).or_insert_with(|| Lane::new(entry.route));
        if lane.open == 0 {
            lane.route = entry.route;
        } else if lane.route != entry.route || ordering == LaneOrdering::OneInFlight || !lane.deferred.is_empty() {
            lane.deferred.push_back(entry);
            return None;
        }
        lane.open += 1;
        Some(entry)
    }

    /// One open entry of the lane is gone (confirmed, failed or given back). Returns the lane when nothing of it is open
    /// any more and something has to happen: a block to look at, or deferred entries to let in.
    pub(super) fn closed_one(&mut self, key: LaneKey) -> Option<&mut Lane> {
        let lane = self.map.get_mut(&key)?;
        lane.open = lane.open.saturating_sub(1);
        if lane.open > 0 {
            return None;
        }
        if lane.block.is_none() && lane.deferred.is_empty() {
            self.map.remove(&key);
            return None;
        }
        self.map.get_mut(&key)
    }

    /// Blocks a lane, or adds to its block. Returns its deferred entries, which must be given up.
    pub(super) fn block(&mut self, key: LaneKey, block: Block) -> VecDeque<Entry> {
        let lane = self.map.entry(key).or_insert_with(|| Lane::new(RouteId::NONE));
        match &mut lane.block {
            None => {
                self.blocked += 1;
                lane.block = Some(Box::new(block));
            }
            Some(old) => {
                old.rewind_from = old.rewind_from.min(block.rewind_from);
                if block.wait != Wait::Release {
                    (old.wait, old.head) = (block.wait, block.head);
                }
            }
        }
        std::mem::take(&mut lane.deferred)
    }

    /// The lane's block, when it has one.
    pub(super) fn block_of(&mut self, key: LaneKey) -> Option<&mut Block> {
        self.map.get_mut(&key)?.block.as_deref_mut()
    }

    /// Ends a block. The caller rewinds the shard.
    pub(super) fn unblock(&mut self, key: LaneKey) -> Option<Block> {
        let lane = self.map.get_mut(&key)?;
        let block = lane.block.take()?;
        self.blocked -= 1;
        if lane.open == 0 && lane.deferred.is_empty() {
            self.map.remove(&key);
        }
        Some(*block)
    }

    /// Nothing is open any more. Returns the blocks that waited for just that.
    pub(super) fn session_lost(&mut self) -> Vec<Block> {
        let mut released = Vec::new();
        self.map.retain(|_, lane| {
            lane.open = 0;
            match lane.block.as_deref() {
                Some(block) if block.wait == Wait::Release => {
                    released.push(*block);
                    false
                }
                Some(_) => true,
                None => false,
            }
        });
        self.blocked = self.map.len();
        released
    }

    /// Keys whose head waits for its next attempt.
    pub(super) fn in_retry(&self, of: impl Fn(ShardId) -> bool) -> Vec<LaneKey> {
        let waits =
            |lane: &Lane| lane.block.as_deref().is_some_and(|block| block.wait == Wait::Retry && of(block.shard));
        let mut keys: Vec<_> = self.map.iter().filter(|(_, lane)| waits(lane)).map(|(&key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    /// Forgets a lane that holds nothing.
    pub(super) fn remove_if_empty(&mut self, key: LaneKey) {
        if self.map.get(&key).is_some_and(|lane| lane.open == 0 && lane.block.is_none() && lane.deferred.is_empty()) {
            self.map.remove(&key);
        }
    }

    /// Ends the blocks of a shard whose lanes hold nothing open, and reports whether any lane of it is left.
    pub(super) fn forget_shard(&mut self, shard: ShardId) {
        let blocked = &mut self.blocked;
        self.map.retain(|_, lane| {
            if lane.block.as_deref().is_some_and(|block| block.shard == shard) {
                lane.block = None;
                *blocked -= 1;
            }
            lane.open > 0 || lane.block.is_some() || !lane.deferred.is_empty()
        });
    }
}

impl Lane {
    fn new(route: RouteId) -> Self {
        Self { open: 0, route, deferred: VecDeque::new(), block: None }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry with `seq` of the key `key`, for the first route.
    pub(in crate::relay) fn entry(seq: i64, key: &str) -> Entry {
        let message = Message {
            id: uuid::Uuid::nil(),
            shard: ShardId(0),
            seq,
            aggregate_type: "order".to_owned(),
            aggregate_id: Some(key.to_owned()),
            event_type: "placed".to_owned(),
            payload: Vec::new().into(),
            content_type: "application/json".to_owned(),
            headers: crate::Headers::default(),
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
            attempts: 0,
        };
        let lane = message.lane();
        Entry { message: Arc::new(message), lane, route: RouteId::NONE, alone: false }
    }

    fn key(entry: &Entry) -> LaneKey {
        entry.lane.expect("it has a key")
    }

    fn block(from: i64, wait: Wait) -> Block {
        Block { wait, shard: ShardId(0), rewind_from: from, head: Some(from) }
    }

    #[test]
    fn a_pipelined_lane_has_many_in_flight_and_the_other_kind_one() {
        let (mut pipelined, mut single) = (Lanes::default(), Lanes::default());
        for (seq, expected) in [(1, true), (2, false), (3, false)] {
            assert!(pipelined.admit(entry(seq, "a"), LaneOrdering::Pipelined).is_some());
            assert_eq!(single.admit(entry(seq, "a"), LaneOrdering::OneInFlight).is_some(), expected);
        }
        assert!(single.admit(entry(4, "b"), LaneOrdering::OneInFlight).is_some(), "other keys are independent");
        assert_eq!(single.closed_one(key(&entry(1, "a"))).map(|lane| lane.deferred.len()), Some(2));
    }

    #[test]
    fn a_lane_with_nothing_left_is_forgotten() {
        let mut lanes = Lanes::default();
        lanes.admit(entry(1, "a"), LaneOrdering::Pipelined);
        assert!(lanes.closed_one(key(&entry(1, "a"))).is_none());
        assert!(lanes.map.is_empty());
    }

    #[test]
    fn a_block_remembers_the_lowest_message_given_up_and_gives_the_deferred_ones_back() {
        let mut lanes = Lanes::default();
        for seq in 5..8 {
            lanes.admit(entry(seq, "a"), LaneOrdering::OneInFlight);
        }
        let lane = key(&entry(5, "a"));
        assert_eq!(lanes.block(lane, block(5, Wait::Commit)).len(), 2);
        lanes.block(lane, block(3, Wait::Release));
        let stays = lanes.block_of(lane).copied().expect("blocked");
        assert_eq!((stays.wait, stays.rewind_from), (Wait::Commit, 3), "a later release does not end a commit's wait");
        assert_eq!((lanes.blocked, lanes.unblock(lane).is_some(), lanes.blocked), (1, true, 0));
    }

    #[test]
    fn a_lost_session_ends_only_the_blocks_that_waited_for_it() {
        let mut lanes = Lanes::default();
        lanes.block(LaneKey(1), block(4, Wait::Release));
        lanes.block(LaneKey(2), block(9, Wait::Retry));
        lanes.admit(entry(1, "a"), LaneOrdering::Pipelined);
        let released: Vec<_> = lanes.session_lost().iter().map(|block| block.rewind_from).collect();
        assert_eq!((released, lanes.map.len(), lanes.blocked), (vec![4], 1, 1));
        assert_eq!(lanes.in_retry(|_| true), [LaneKey(2)]);
    }
}
