//! What MySQL and MariaDB show instead of snapshots: rows of running transactions, to a dirty read.

use std::collections::BTreeSet;

use outbox_core::order::{Again, HotRange, Look, WatchPlan};
use outbox_core::ports::{Lease, Position, ShardId};
use std::time::Duration;

use super::{Database, Micros, Row, Transaction};

/// A row's place.
type Place = (ShardId, i64);

/// What only a dirty read sees.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// Rows of running transactions that are in the index.
    there: BTreeSet<Place>,
    /// Committed rows whose removal has not committed.
    being_removed: BTreeSet<Place>,
}

/// The rows that one statement selected.
#[derive(Debug, Default)]
pub(in crate::simulation) struct Selected {
    /// Committed rows below the floors.
    pub(in crate::simulation) late: Vec<Row>,
    /// Shards of which a limit cut `late`.
    pub(in crate::simulation) cut: Vec<ShardId>,
    /// Committed rows past each floor, and whether there are more.
    pub(in crate::simulation) hot: Vec<(HotRange, Vec<Row>, bool)>,
    /// Rows below the floors that waited and are due.
    pub(in crate::simulation) due: Vec<Row>,
    pub(in crate::simulation) leases: Vec<Lease>,
    pub(in crate::simulation) next_due_in: Option<Duration>,
    /// The clock of the statement.
    pub(in crate::simulation) now: Micros,
    /// Every `seq` up to this one had been drawn before.
    pub(in crate::simulation) drawn: i64,
}

impl Database {
    /// A row that was inserted gets into the index.
    pub(in crate::simulation) fn appear(&mut self, place: Place) {
        self.uncommitted.there.insert(place);
    }

    pub(super) fn is_no_longer_open(&mut self, transaction: &Transaction) {
        for row in &transaction.rows {
            self.uncommitted.there.remove(&(row.message.shard, row.message.seq));
        }
    }

    /// A statement begins to remove rows; it may still be rolled back.
    pub(in crate::simulation) fn begin_removal(&mut self, positions: &[Position]) {
        let places = positions.iter().map(|position| (position.shard, position.seq));
        let rows = &self.rows;
        self.uncommitted.being_removed.extend(places.filter(|place| rows.contains_key(place)));
    }

    /// It ends; what was really removed is gone already.
    pub(in crate::simulation) fn end_removal(&mut self, positions: &[Position]) {
        for position in positions {
            self.uncommitted.being_removed.remove(&(position.shard, position.seq));
        }
    }

    /// Committed rows that a plan asks for, at one moment.
    pub(in crate::simulation) fn select(&self, plan: &WatchPlan, rows: usize, due_after: i64, now: Micros) -> Selected {
        let shards: Vec<ShardId> = plan.hot.iter().map(|hot| hot.shard).collect();
        let mut selected = Selected {
            now,
            drawn: self.last_seq(),
            leases: self.leases_of(shards.iter().copied()),
            ..Selected::default()
        };
        selected.next_due_in = self.next_due_in(&shards, now);
        for &Again { shard, after, upto, known } in &plan.again {
            let limit = known + rows + 1;
            let before = selected.late.len();
            selected.late.extend(self.range(shard, after, upto).take(limit).map(|(_, row)| row.clone()));
            if selected.late.len() - before == limit {
                selected.cut.push(shard);
            }
        }
        selected.late.extend(plan.keys.iter().filter_map(|place| self.rows.get(place)).cloned());
        selected.late.sort_by_key(|row| (row.message.shard, row.message.seq));
        for &hot in &plan.hot {
            let mut found: Vec<Row> =
                self.range(hot.shard, hot.after, i64::MAX).take(hot.limit + 1).map(|(_, row)| row.clone()).collect();
            let more = found.len() > hot.limit;
            found.truncate(hot.limit);
            selected.hot.push((hot, found, more));
        }
        let floors: Vec<Place> = plan.hot.iter().map(|hot| (hot.shard, hot.after)).collect();
        selected.due = self.due(&floors, due_after, now).into_iter().take(rows + 1).cloned().collect();
        selected
    }

    /// Rows that are in the index, whatever becomes of them.
    pub(in crate::simulation) fn dirty_read(&self, look: &Look) -> Vec<Place> {
        let Uncommitted { there, being_removed } = &self.uncommitted;
        let is_there =
            |place: &Place| there.contains(place) || (self.rows.contains_key(place) && !being_removed.contains(place));
        let mut found: BTreeSet<Place> = look.keys.iter().copied().filter(is_there).collect();
        for range in &look.ranges {
            let committed = self.range(range.shard, range.after, range.upto).map(|(&place, _)| place);
            let bounds = (range.shard, range.after + 1)..=(range.shard, range.upto);
            let all: BTreeSet<Place> = committed.filter(is_there).chain(there.range(bounds).copied()).collect();
            found.extend(all.into_iter().take(range.limit));
        }
        found.into_iter().collect()
    }
}
