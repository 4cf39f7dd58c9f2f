//! Reading in a safe order from a database with snapshots, where transactions commit out of `seq` order.
//!
//! A *floor* a shard says how far the reader is. A transaction that took a low `seq` and commits late lies below the
//! floor; publishing a later message of its key first would reorder, and never looking back would lose it. The rule:
//!
//! > A row read at snapshot S is published only after every range that a transaction which ended before S could have
//! > written to has been read at S or later.
//!
//! [`SnapshotTracker`] keeps, for each shard, the ranges that the floor passed (*segments*) for as long as a
//! transaction that may still write into them runs, and plans which of them the next read must look at again *in the same
//! statement* as the rows past the floors.
//!
//! Which transactions may still write into a segment follows from a [`Horizon`] (L, N): the writer's statement takes a transaction id
//! before it takes a `seq`, so if L was the sequence's last value and afterwards a new transaction got id N, every
//! `seq <= L` belongs to a transaction with an id below N. A segment that the horizon covers is *closed*: once a
//! snapshot's `xmax` is above N, the transactions below N that still run at that snapshot are all that can write into it.
//! Taking the running list of the read's own snapshot without a horizon is wrong: transactions at or above its `xmax` run too and
//! are not in it.
//!
//! Most transactions of a busy database write no message at all, and relays' own removals are among them. One that is seen running and
//! without any `seq` *after* the horizon was made can only take higher ones: no closed segment waits for it
//! ([`Observed::idle`]).
//!
//! [`WatchTracker`] does the same for databases that do not say which transactions run, but show their rows to a dirty read.

mod plan;
mod tracker;
mod watch;

pub use plan::{HotRange, LateRange, Plan, share_rows};
pub use tracker::{Horizon, Observed, Snapshot, SnapshotTracker, TrackerMode};
pub use watch::{Again, Look, LookRange, MARGIN, WatchMode, WatchPlan, WatchRead, WatchTracker};
