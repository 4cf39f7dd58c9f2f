//! The order rule where the only view of running transactions is a dirty read.

mod piece;
mod plan;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{HotRange, share_rows};
use crate::ports::ShardId;
pub use plan::{Again, Look, LookRange, WatchPlan, WatchRead};
use shard::{Room, Shard};

/// How long a row may take from the moment when its `seq` is drawn until a dirty read sees it, unless a storage is told otherwise.
///
/// A statement that appends many rows may draw all its values at once, so this is the time of the whole statement, and what appends
/// must keep its statements short.
pub const MARGIN: Duration = Duration::from_millis(250);

/// Watched rows that are looked up by key, over all shards. More than these are watched as ranges.
const KEYS: usize = 2_048;
/// The least share of a shard in [`KEYS`].
const LEAST_KEYS: usize = 8;
/// Rows that one look lists beyond those known and those that it may watch, over all shards.
const LOOK_ROWS: usize = 16_384;
/// The least share of a shard in [`LOOK_ROWS`].
const LEAST_LOOK_ROWS: usize = 64;

/// How late commits are guarded. Everything but [`Watch`](Self::Watch) is a deliberate defect for the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WatchMode {
    /// As the rule says.
    #[default]
    Watch,
    /// Nothing below a floor is looked at again.
    #[cfg(feature = "simulation")]
    FloorOnly,
    /// What a read passes was listed by the dirty read before it.
    #[cfg(feature = "simulation")]
    LookFirst,
}

/// The floors, the passed ranges and the watch list of one reader, for a database without snapshot functions where a READ UNCOMMITTED
/// session sees the rows of running transactions (MySQL, MariaDB).
///
/// # The rule
///
/// A *read* is one statement at one snapshot that sees committed rows. A *look* is a dirty read: it lists which rows are in the index,
/// committed or not. When a read moves a floor from a to b, then every `seq` up to b had been drawn when it ran, because the row
/// b was committed, or because the server had said so before. So the range (a, b] is
///
/// 1. *young*, and part of every read, until it is a margin old (usually [`MARGIN`]);
/// 2. then looked at. What is there and was not returned by a read is *watched*: the rows of transactions that still run. What is not
///    there was rolled back, or was settled;
/// 3. part of one more read, and then forgotten. Watched rows are part of every read until one returns them or they vanish.
///
/// A transaction that a read's snapshot sees as ended has its rows in a range that this read covers, or on the watch list that it
/// covers, or they were returned before. Since all of that is *in the same statement* as the rows past the floors, a row whose
/// append ran after another's commit cannot be returned before it.
///
/// # Why each part is as it is
///
/// - The age of a range is counted from *after* the reply of the read that moved the floor (a late bound of its snapshot) to after the reply
///   of a later read, and the look is sent after that. A relay that is stopped anywhere between makes a range seem younger than it
///   is, or is stopped before the look is sent; neither ends a range that was not looked at.
/// - The time between two reads counts for at most a quarter of the margin, so that a *server* that was stopped as a whole has
///   answered several times before a range is old.
/// - A read and a look are not at the same instant. A row that commits between the read and the look is listed, was not
///   returned and is watched; one that commits between the look and the next read is on the watch list already.
/// - A look also misses a row whose *removal* runs and may still be rolled back. So nothing that a look missed is forgotten before
///   one more read, which sees that row as long as its removal has not committed.
/// - A row that a read saw but that did not fit its limits is not returned, so the look lists it as one to be watched; until all such
///   rows of a shard were returned, its rows past the floor stay where they are ([`WatchRead::cut`]).
/// - A look that fails or is never made costs time and memory, not order: the ranges stay.
///
/// # The assumption
///
/// Between drawing a `seq` and the row being in the index for a dirty read there is less than the margin. The server cannot
/// be asked for that. A row that takes longer is found by the full sweep, late but not lost.
///
/// # Memory
///
/// Rows that were returned and lie in a young range ([`is_known`](Self::is_known)): what one margin brings. Watched rows: at most 2,048, or
/// 8 a shard if that is more. A transaction with more rows than that (a bulk load that stays open) is watched as a range, which costs the
/// server a scan of that range with every read, and no memory here.
///
/// # Use
///
/// [`plan`](Self::plan), read, [`took`](Self::took); [`look`](Self::look), dirty read, [`looked`](Self::looked); and so on. A statement that
/// failed is left out with its second call. Nothing else may come between the two calls of a pair, but a rewind or an assignment
/// may come between [`look`](Self::look) and [`looked`](Self::looked).
#[derive(Debug)]
pub struct WatchTracker {
    shards: BTreeMap<ShardId, Shard>,
    margin: Duration,
    mode: WatchMode,
    /// When the last read had returned.
    now: Option<Instant>,
    /// `now` when watched rows were last looked at.
    watched_at: Option<Instant>,
}

impl WatchTracker {
    /// A tracker with no shards. `margin` is usually [`MARGIN`].
    pub fn new(margin: Duration, mode: WatchMode) -> Self {
        Self { shards: BTreeMap::new(), margin, mode, now: None, watched_at: None }
    }

    /// Sets the shards: new ones start at floor 0, those that are gone are forgotten.
    pub fn assign(&mut self, shards: &[ShardId]) {
        let wanted: BTreeSet<_> = shards.iter().copied().collect();
        self.shards.retain(|shard, _| wanted.contains(shard));
        for shard in wanted {
            self.shards.entry(shard).or_insert_with(Shard::at_the_bottom);
        }
    }

    /// Moves the floor of a shard down to `from_seq - 1`. What lies above becomes hot again, so nothing above it is watched.
    pub fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        if let Some(state) = self.shards.get_mut(&shard) {
            state.rewind((from_seq - 1).max(0));
        }
    }

    /// The floor of a shard: everything at or below it was read once.
    pub fn floor(&self, shard: ShardId) -> Option<i64> {
        self.shards.get(&shard).map(|state| state.floor)
    }

    /// The shards with their floors.
    pub fn floors(&self) -> impl Iterator<Item = (ShardId, i64)> + '_ {
        self.shards.iter().map(|(&shard, state)| (shard, state.floor))
    }

    /// Whether anything below a floor is looked at again.
    pub fn is_watching(&self) -> bool {
        self.shards.values().any(|state| !state.pieces.is_empty() || !state.keys.is_empty())
    }

    /// Whether a row of a range that the next read looks at [again](WatchPlan::again) was returned before and needs neither be loaded nor
    /// counted. A row that is due after it waited is to be returned all the same.
    pub fn is_known(&self, shard: ShardId, seq: i64) -> bool {
        self.shards.get(&shard).is_some_and(|state| state.known.contains(&seq))
    }

    /// What the next read must look at, in one statement.
    pub fn plan(&self, rows: usize) -> WatchPlan {
        let shares = share_rows(self.shards.values().map(|state| state.hungry), rows);
        let hot = self
            .shards
            .iter()
            .zip(shares)
            .map(|((&shard, state), limit)| HotRange { shard, after: state.floor, limit })
            .collect();
        let mut plan = WatchPlan { hot, ..WatchPlan::default() };
        for (&shard, state) in &self.shards {
            plan.again.extend(state.again(shard));
            plan.keys.extend(state.keys_apart().map(|seq| (shard, seq)));
        }
        plan
    }

    /// Takes what a read of [`plan`](Self::plan) found. `replied_at` is measured *after* the reply.
    pub fn took(&mut self, read: &WatchRead, replied_at: Instant) {
        self.now = Some(self.now.map_or(replied_at, |now| now.max(replied_at)));
        let cut: BTreeSet<ShardId> = read.cut.iter().copied().collect();
        for (shard, state) in &mut self.shards {
            if !cut.contains(shard) {
                state.forget_what_is_gone();
            }
            state.grow_older(replied_at, self.margin);
        }
        for &(shard, top, hungry) in &read.hot {
            if let Some(state) = self.shards.get_mut(&shard) {
                state.hungry = hungry;
                if top > state.floor {
                    self.mode.pass(state, top, replied_at, self.margin);
                }
            }
        }
        for &(shard, seq) in &read.taken {
            if let Some(state) = self.shards.get_mut(&shard) {
                state.returned(seq);
            }
        }
    }

    /// What the next look must list; `None` when it is not time for one.
    ///
    /// Under load a range is looked at about every quarter of the margin, watched rows once a margin.
    pub fn look(&self) -> Option<Look> {
        #[cfg(feature = "simulation")]
        if self.mode == WatchMode::LookFirst {
            return Some(self.look_ahead());
        }
        let watched = match (self.now, self.watched_at) {
            (Some(now), Some(at)) => now.saturating_duration_since(at) >= self.margin,
            _ => true,
        };
        let room = self.room();
        let mut look = Look::default();
        for (&shard, state) in &self.shards {
            look.ranges.extend(state.look(shard, watched, room));
            if watched {
                look.keys.extend(state.keys.keys().map(|&seq| (shard, seq)));
            }
        }
        (!look.ranges.is_empty() || !look.keys.is_empty()).then_some(look)
    }

    /// Takes what a dirty read of [`look`](Self::look) listed: all rows that it found, in any order.
    pub fn looked(&mut self, look: &Look, there: &[(ShardId, i64)]) {
        let mut by_shard: BTreeMap<ShardId, BTreeSet<i64>> = BTreeMap::new();
        for &(shard, seq) in there {
            by_shard.entry(shard).or_default().insert(seq);
        }
        let nothing = BTreeSet::new();
        let room = self.room();
        for &(shard, seq) in &look.keys {
            if let Some(missing) = self.shards.get_mut(&shard).and_then(|state| state.keys.get_mut(&seq)) {
                *missing = !by_shard.get(&shard).unwrap_or(&nothing).contains(&seq);
            }
        }
        for range in &look.ranges {
            if let Some(state) = self.shards.get_mut(&range.shard) {
                let there = by_shard.get(&range.shard).unwrap_or(&nothing);
                self.mode.list(state, range, there, room);
            }
        }
        if !look.keys.is_empty() || look.ranges.iter().any(|range| range.watched) {
            self.watched_at = self.now;
        }
    }

    fn room(&self) -> Room {
        let shards = self.shards.len().max(1);
        Room { keys: (KEYS / shards).max(LEAST_KEYS), rows: (LOOK_ROWS / shards).max(LEAST_LOOK_ROWS) }
    }

    #[cfg(feature = "simulation")]
    fn look_ahead(&self) -> Look {
        let ahead = |(&shard, state): (&ShardId, &Shard)| LookRange {
            shard,
            after: state.floor,
            upto: i64::MAX,
            limit: usize::MAX,
            watched: false,
        };
        let keys = self.shards.iter().flat_map(|(&shard, state)| state.keys.keys().map(move |&seq| (shard, seq)));
        Look { ranges: self.shards.iter().map(ahead).collect(), keys: keys.collect() }
    }
}

impl WatchMode {
    fn pass(self, state: &mut Shard, top: i64, replied_at: Instant, margin: Duration) {
        match self {
            Self::Watch => state.pass(top, replied_at, margin),
            #[cfg(feature = "simulation")]
            Self::FloorOnly => state.floor = top,
            #[cfg(feature = "simulation")]
            Self::LookFirst => {
                let listed = std::mem::take(&mut state.listed_ahead);
                state.keys.extend(listed.range(..=top).map(|&seq| (seq, false)));
                state.floor = top;
            }
        }
    }

    fn list(self, state: &mut Shard, range: &LookRange, there: &BTreeSet<i64>, room: Room) {
        #[cfg(feature = "simulation")]
        if self == Self::LookFirst {
            state.listed_ahead = there.iter().copied().filter(|&seq| seq > range.after).collect();
            return;
        }
        state.list(range, there, room);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
