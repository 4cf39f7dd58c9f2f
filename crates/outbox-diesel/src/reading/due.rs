//! When rows that wait become due.

use std::collections::BTreeMap;

use outbox_core::ports::ShardId;

/// Where the due rows of a shard begin that were not returned yet: (`wake_at` in microseconds of the database's epoch, `seq`).
pub(crate) type DueFrom = (i64, i64);

/// For each shard the earliest row that waits at or below its floor. A shard where nothing waits is not in it and costs
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct DueTimes {
    shards: BTreeMap<ShardId, DueFrom>,
}

impl DueTimes {
    /// A row waits.
    pub(crate) fn add(&mut self, shard: ShardId, from: DueFrom) {
        let known = self.shards.entry(shard).or_insert(from);
        *known = (*known).min(from);
    }

    /// Everything before the clock of a read was returned.
    pub(crate) fn clear(&mut self, shard: ShardId) {
        self.shards.remove(&shard);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(ShardId) -> bool) {
        self.shards.retain(|&shard, _| keep(shard));
    }

    /// Shards with rows that are due at `clock`.
    pub(crate) fn at(&self, clock: i64) -> impl Iterator<Item = (ShardId, DueFrom)> + '_ {
        self.shards.iter().filter(move |(_, from)| from.0 <= clock).map(|(&shard, &from)| (shard, from))
    }

    /// The earliest of all.
    pub(crate) fn earliest(&self) -> Option<i64> {
        self.shards.values().map(|from| from.0).min()
    }
}
