use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{HotRange, LateRange, Plan, share_rows};
use crate::ports::ShardId;

/// A snapshot as PostgreSQL's `pg_current_snapshot()` shows it: all transactions below `xmax` that are not in
/// `running` have ended; none at or above it has, as far as this snapshot sees.
///
/// Source: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The first id that had not been given out.
    pub xmax: u64,
    /// Ids below `xmax` that were running.
    pub running: BTreeSet<u64>,
}

impl Snapshot {
    /// Parses `xmin:xmax:xip,xip,…`. `None` when the text is no snapshot.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|id| !id.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { xmax: xmax.parse().ok()?, running })
    }

    /// Whether this snapshot sees the transaction as ended.
    pub fn has_ended(&self, xid: u64) -> bool {
        xid < self.xmax && !self.running.contains(&xid)
    }

    /// Whether a transaction was running that began before the horizon was made.
    pub fn is_crowded(&self, horizon: Horizon) -> bool {
        self.running.range(..horizon.next_xid).next().is_some()
    }

    fn without(&self, idle: &BTreeSet<u64>) -> Cow<'_, Self> {
        if idle.is_empty() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { xmax: self.xmax, running: self.running.difference(idle).copied().collect() })
    }
}

/// Every `seq <= last_seq` was taken by a transaction with an id below `next_xid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The sequence's last value, read before `next_xid` was given out.
    pub last_seq: i64,
    /// The id of a transaction that began to write after that.
    pub next_xid: u64,
}

/// What a read that followed a [`Plan`] found.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The statement's snapshot.
    pub snapshot: Snapshot,
    /// For each shard with hot rows: the last `seq` taken, and whether the range was cut before its end.
    pub hot: Vec<(ShardId, i64, bool)>,
    /// Late ranges of which not all rows were taken, with the last `seq` taken (`after` when none was). The hot rows of
    /// such a shard must not be taken in this read.
    pub cut: Vec<(LateRange, i64)>,
    /// Transactions that were seen running without any `seq`, after the horizon that the tracker knows was made and before
    /// the statement ran. What they take from then on is above the horizon, so no closed segment waits for them. A transaction that
    /// may have ended by then must not be in it. May be left empty: then they are watched.
    pub idle: BTreeSet<u64>,
}

/// How segments are guarded. Everything but [`Horizon`](Self::Horizon) is a deliberate defect for the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TrackerMode {
    /// As the rule says.
    #[default]
    Horizon,
    /// A segment is closed with the running list of the read that made it.
    #[cfg(feature = "simulation")]
    OwnRunningList,
    /// No segments at all.
    #[cfg(feature = "simulation")]
    FloorOnly,
}

/// The floors and segments of one reader. See the [module](super).
#[derive(Debug, Default)]
pub struct SnapshotTracker {
    shards: BTreeMap<ShardId, Shard>,
    horizon: Option<Horizon>,
    mode: TrackerMode,
}

#[derive(Debug, Default)]
struct Shard {
    floor: i64,
    hungry: bool,
    open: Vec<(i64, i64)>,
    closed: BTreeMap<BTreeSet<u64>, (i64, i64)>,
}

impl SnapshotTracker {
    /// A tracker with no shards.
    pub fn new(mode: TrackerMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Sets the shards: new ones start at floor 0, those that are gone are forgotten.
    pub fn assign(&mut self, shards: &[ShardId]) {
        let wanted: BTreeSet<_> = shards.iter().copied().collect();
        self.shards.retain(|shard, _| wanted.contains(shard));
        for shard in wanted {
            self.shards.entry(shard).or_insert_with(|| Shard { hungry: true, ..Shard::default() });
        }
    }

    /// Moves the floor of a shard down to `from_seq - 1`. What lies above becomes hot again, so segments above it end.
    pub fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        let Some(state) = self.shards.get_mut(&shard) else { return };
        let floor = (from_seq - 1).max(0);
        if floor >= state.floor {
            return;
        }
        state.floor = floor;
        state.hungry = true;
        let clip = |(lo, hi): (i64, i64)| (lo < floor).then_some((lo, hi.min(floor)));
        state.open = state.open.iter().copied().filter_map(clip).collect();
        state.closed = std::mem::take(&mut state.closed)
            .into_iter()
            .filter_map(|(running, range)| clip(range).map(|range| (running, range)))
            .collect();
    }

    /// The floor of a shard: everything at or below it was read once.
    pub fn floor(&self, shard: ShardId) -> Option<i64> {
        self.shards.get(&shard).map(|state| state.floor)
    }

    /// The shards with their floors.
    pub fn floors(&self) -> impl Iterator<Item = (ShardId, i64)> + '_ {
        self.shards.iter().map(|(&shard, state)| (shard, state.floor))
    }

    /// Takes a newer horizon; an older one is ignored.
    pub fn advance_horizon(&mut self, horizon: Horizon) {
        if self.horizon.is_none_or(|old| horizon.next_xid > old.next_xid) {
            self.horizon = Some(horizon);
        }
    }

    /// Whether a segment waits for a newer horizon.
    pub fn wants_horizon(&self) -> bool {
        self.shards.values().any(|state| !state.open.is_empty())
    }

    /// Whether a segment is watched at all, so that an idle reader should look again soon.
    pub fn is_watching(&self) -> bool {
        self.shards.values().any(|state| !state.open.is_empty() || !state.closed.is_empty())
    }

    /// What the next read must look at, in one statement.
    pub fn plan(&self, rows: usize) -> Plan {
        let shares = share_rows(self.shards.values().map(|state| state.hungry), rows);
        let hot = self
            .shards
            .iter()
            .zip(shares)
            .map(|((&shard, state), limit)| HotRange { shard, after: state.floor, limit })
            .collect();
        let mut late = Vec::new();
        for (&shard, state) in &self.shards {
            late.extend(state.open.iter().map(|&(after, upto)| LateRange { shard, after, upto, watch: None }));
            for (running, &(after, upto)) in &state.closed {
                late.extend(running.iter().map(|&xid| LateRange { shard, after, upto, watch: Some(xid) }));
            }
        }
        Plan { hot, late }
    }

    /// Takes what a read of [`plan`](Self::plan)'s ranges found.
    pub fn observe(&mut self, observed: &Observed) {
        for &(shard, top, cut) in &observed.hot {
            if let Some(state) = self.shards.get_mut(&shard) {
                state.hungry = cut;
                if top > state.floor {
                    state.open.push((state.floor, top));
                    state.floor = top;
                }
            }
        }
        let (horizon, mode) = (self.horizon, self.mode);
        let snapshot = observed.snapshot.without(&observed.idle);
        for (&shard, state) in &mut self.shards {
            let cut = observed
                .cut
                .iter()
                .filter(|(range, _)| range.shard == shard)
                .map(|&(range, taken)| (taken, range.upto));
            state.advance(&snapshot, horizon, mode, cut.collect());
        }
    }

    /// Marks shards without hot rows in a read as not hungry.
    pub fn rest(&mut self, shards: impl IntoIterator<Item = ShardId>) {
        for shard in shards {
            if let Some(state) = self.shards.get_mut(&shard) {
                state.hungry = false;
            }
        }
    }
}

impl Shard {
    /// Moves the segments on by one read at `snapshot`. `cut` ranges were not read to their end and stay open.
    fn advance(&mut self, snapshot: &Snapshot, horizon: Option<Horizon>, mode: TrackerMode, cut: Vec<(i64, i64)>) {
        #[cfg(feature = "simulation")]
        if mode == TrackerMode::FloorOnly {
            self.open.clear();
            return;
        }
        let horizon = match mode {
            TrackerMode::Horizon => horizon,
            #[cfg(feature = "simulation")]
            _ => Some(Horizon { last_seq: i64::MAX, next_xid: snapshot.xmax.saturating_sub(1).max(1) }),
        };
        let usable = horizon.filter(|horizon| snapshot.xmax > horizon.next_xid);
        let mut closed: Vec<(BTreeSet<u64>, (i64, i64))> = std::mem::take(&mut self.closed)
            .into_iter()
            .map(|(running, range)| (running.intersection(&snapshot.running).copied().collect(), range))
            .collect();
        let mut open = Vec::new();
        for (lo, hi) in std::mem::take(&mut self.open) {
            let covered = usable.map_or(lo, |horizon| hi.min(horizon.last_seq)).max(lo);
            if let (true, Some(horizon)) = (covered > lo, usable) {
                closed.push((snapshot.running.range(..horizon.next_xid).copied().collect(), (lo, covered)));
            }
            if covered < hi {
                open.push((covered, hi));
            }
        }
        open.extend(cut.into_iter().filter(|(lo, hi)| lo < hi));
        self.open = merged(open);
        for (running, (lo, hi)) in closed {
            if !running.is_empty() {
                let range = self.closed.entry(running).or_insert((lo, hi));
                *range = (range.0.min(lo), range.1.max(hi));
            }
        }
    }
}

/// Joins ranges that touch or overlap.
fn merged(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (lo, hi) in ranges {
        match out.last_mut() {
            Some(last) if lo <= last.1 => last.1 = last.1.max(hi),
            _ => out.push((lo, hi)),
        }
    }
    out
}

#[cfg(test)]
mod tests;
