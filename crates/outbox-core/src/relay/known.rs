use rustc_hash::FxHashSet;

use crate::ports::ShardId;

/// The messages that this relay holds: read and not yet settled. Their number is the window.
///
/// A settled message stays known until the read that was running when its removal committed has returned: that read's
/// snapshot may be older than the removal and bring the row back.
#[derive(Debug)]
pub(super) struct Known {
    held: FxHashSet<(ShardId, i64)>,
    /// Messages not yet settled.
    by_shard: Vec<u32>,
    retiring: Vec<(ShardId, i64)>,
}

impl Known {
    pub(super) fn new(shards: u16) -> Self {
        Self { held: FxHashSet::default(), by_shard: vec![0; usize::from(shards)], retiring: Vec::new() }
    }

    /// Notes a message; `false` when it is held already.
    pub(super) fn insert(&mut self, shard: ShardId, seq: i64) -> bool {
        let new = self.held.insert((shard, seq));
        if new {
            self.by_shard[usize::from(shard.0)] += 1;
        }
        new
    }

    pub(super) fn contains(&self, shard: ShardId, seq: i64) -> bool {
        self.held.contains(&(shard, seq))
    }

    pub(super) fn remove(&mut self, shard: ShardId, seq: i64) {
        if self.held.remove(&(shard, seq)) {
            self.by_shard[usize::from(shard.0)] -= 1;
        }
    }

    /// Forgets a settled message: at once, or when the running read has returned.
    pub(super) fn retire(&mut self, shard: ShardId, seq: i64, a_read_is_running: bool) {
        if !a_read_is_running {
            self.remove(shard, seq);
        } else if self.held.contains(&(shard, seq)) {
            self.by_shard[usize::from(shard.0)] -= 1;
            self.retiring.push((shard, seq));
        }
    }

    /// The read that was running has returned and its rows were compared.
    pub(super) fn read_returned(&mut self) {
        for place in std::mem::take(&mut self.retiring) {
            self.held.remove(&place);
        }
    }

    /// Messages not yet settled.
    pub(super) fn len(&self) -> usize {
        self.held.len() - self.retiring.len()
    }

    pub(super) fn of_shard(&self, shard: ShardId) -> u32 {
        self.by_shard[usize::from(shard.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_message_stays_known_until_the_running_read_returned() {
        let mut known = Known::new(1);
        assert!(known.insert(ShardId(0), 7) && !known.insert(ShardId(0), 7));
        known.retire(ShardId(0), 7, true);
        assert!(known.contains(ShardId(0), 7));
        assert_eq!((known.len(), known.of_shard(ShardId(0))), (0, 0), "nothing to wait for");
        known.read_returned();
        assert!(!known.contains(ShardId(0), 7));
        assert_eq!((known.len(), known.of_shard(ShardId(0))), (0, 0));
    }
}
