use rustc_hash::{FxHashMap, FxHashSet};

use crate::message::LaneKey;
use crate::ports::ShardId;

/// Messages that were dropped from memory because where they go takes none now. They are read again when it does.
///
/// Takes 16 bytes for each shard and each key that waits, whatever the number of messages.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// The lowest message given up, by shard.
    rewinds: FxHashMap<ShardId, i64>,
    /// Keys of messages given up: their later messages wait too, wherever they go.
    lanes: FxHashSet<LaneKey>,
}

impl GivenUp {
    pub(super) fn add(&mut self, shard: ShardId, seq: i64, lane: Option<LaneKey>) {
        let from = self.rewinds.entry(shard).or_insert(seq);
        *from = (*from).min(seq);
        self.lanes.extend(lane);
    }

    pub(super) fn holds(&self, lane: LaneKey) -> bool {
        self.lanes.contains(&lane)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rewinds.is_empty()
    }

    /// Takes over what another gave up.
    pub(super) fn merge(&mut self, other: Self) {
        for (shard, seq) in other.rewinds {
            self.add(shard, seq, None);
        }
        self.lanes.extend(other.lanes);
    }

    /// Where to read again, by shard.
    pub(super) fn into_rewinds(self) -> Vec<(ShardId, i64)> {
        self.rewinds.into_iter().collect()
    }

    /// The same, and the keys wait no longer.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (ShardId, i64)> + use<> {
        self.lanes.clear();
        std::mem::take(&mut self.rewinds).into_iter()
    }
}
