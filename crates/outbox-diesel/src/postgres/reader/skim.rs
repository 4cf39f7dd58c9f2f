//! Skipping what cannot be delivered now without loading it: a million scheduled messages, or followers of a parked key.

use std::collections::{BTreeSet, HashSet};

use outbox_core::message::LaneKey;
use outbox_core::ports::{ParkedKey, ShardId};

/// Rows of a shard that one read looks through. For 64 shards that is some ten milliseconds of the server's time: other
/// shards' messages wait no longer.
pub(super) const SKIM_ROWS: i64 = 2_000;

/// Which shards are to be skimmed by the next read instead of read.
#[derive(Debug, Default)]
pub(super) struct Skim {
    shards: BTreeSet<ShardId>,
    /// Keys known to be parked. Only a hint of where skimming pays: the statement looks at the table itself.
    parked: HashSet<(ShardId, LaneKey)>,
    /// The version of the settler's parked keys that `parked` holds; `None`: read them again.
    known: Option<u64>,
}

impl Skim {
    pub(super) fn is_due(&self, shard: ShardId) -> bool {
        self.shards.contains(&shard)
    }

    /// Whether nearly all of the rows that a shard returned could not be delivered.
    pub(super) fn after_read(&mut self, shard: ShardId, rows: usize, useless: usize) {
        if rows > 0 && useless * 10 >= rows * 9 {
            self.shards.insert(shard);
        }
    }

    /// There is something to read just past the new floor.
    pub(super) fn found(&mut self, shard: ShardId) {
        self.shards.remove(&shard);
    }

    pub(super) fn knows_parked_keys(&self) -> bool {
        !self.parked.is_empty()
    }

    pub(super) fn is_parked(&self, shard: ShardId, lane: Option<LaneKey>) -> bool {
        !self.parked.is_empty() && lane.is_some_and(|lane| self.parked.contains(&(shard, lane)))
    }

    /// Shards or their parked keys have changed.
    pub(super) fn forget(&mut self) {
        self.shards.clear();
        self.known = None;
    }

    pub(super) fn is_current(&self, version: u64) -> bool {
        self.known == Some(version)
    }

    pub(super) fn learn(&mut self, version: u64, parked: impl Iterator<Item = ParkedKey>) {
        self.parked = parked.map(|key| (key.shard, key.lane)).collect();
        self.known = Some(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_skimmed_when_nearly_nothing_of_it_could_be_delivered() {
        let mut skim = Skim::default();
        skim.after_read(ShardId(1), 30, 26);
        assert!(!skim.is_due(ShardId(1)));
        skim.after_read(ShardId(1), 30, 27);
        assert!(skim.is_due(ShardId(1)));
        skim.found(ShardId(1));
        skim.after_read(ShardId(1), 0, 0);
        assert!(!skim.is_due(ShardId(1)));
    }
}
