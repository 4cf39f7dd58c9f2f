use crate::order::HotRange;
use crate::ports::ShardId;

/// What the next read must look at, in one statement at one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchPlan {
    /// Rows past the floors, one range for each shard.
    pub hot: Vec<HotRange>,
    /// Ranges below the floors, ascending, apart from each other.
    pub again: Vec<Again>,
    /// Watched rows, ascending. None of them lies in a range of `again`.
    pub keys: Vec<(ShardId, i64)>,
}

/// `after < seq <= upto`: all rows that are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// The shard.
    pub shard: ShardId,
    /// Exclusive.
    pub after: i64,
    /// Inclusive.
    pub upto: i64,
    /// How many rows of it were returned before and may still be there. They must not use up a limit, or a range that holds more of
    /// them than the limit would never be read to its end.
    pub known: usize,
}

/// What a read of a [`WatchPlan`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchRead {
    /// For each shard whose hot range was read: the last `seq` taken (`after` when none was), and whether the range was cut before
    /// its end. That `seq` must be one of a row that the read saw (of whichever shard: the numbers are drawn for all of them together),
    /// or any other number of which is known that it was drawn before the read.
    pub hot: Vec<(ShardId, i64, bool)>,
    /// All rows that were taken, whichever part of the statement found them: those returned, and those that need not be returned because
    /// they are found in another way when their time comes (a waiting row).
    pub taken: Vec<(ShardId, i64)>,
    /// Shards of which not all rows in [`WatchPlan::again`] and [`WatchPlan::keys`] were taken. The hot rows of such a shard must not be
    /// taken in this read.
    pub cut: Vec<ShardId>,
}

/// What a dirty read must list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// Ranges.
    pub ranges: Vec<LookRange>,
    /// Rows, each by its key.
    pub keys: Vec<(ShardId, i64)>,
}

/// `after < seq <= upto`, ascending, at most `limit` rows, committed or not. Rows that are found in another way when they commit (those that
/// wait) may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookRange {
    /// The shard.
    pub shard: ShardId,
    /// Exclusive.
    pub after: i64,
    /// Inclusive.
    pub upto: i64,
    /// Rows.
    pub limit: usize,
    /// Watched as a range because too much of it is uncommitted.
    pub(super) watched: bool,
}
