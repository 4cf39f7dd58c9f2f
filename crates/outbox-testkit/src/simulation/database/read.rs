use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use outbox_core::order::{LateRange, Observed, Plan};
use outbox_core::ports::{Batch, DeadReason, HeldHead, Lease, ReadLimits, Refused, ShardId};

use super::{Database, Micros, Row};

/// What one read statement answers.
#[derive(Debug, Default)]
pub(in crate::simulation) struct ReadReply {
    pub(in crate::simulation) observed: Observed,
    /// Shards of which no row past the floor exists.
    pub(in crate::simulation) rest: Vec<ShardId>,
    /// The sequence's last value.
    pub(in crate::simulation) last_seq: i64,
    pub(in crate::simulation) batch: Batch,
    /// Where the next read goes on with due rows.
    pub(in crate::simulation) due_after: i64,
}

impl Database {
    /// Late ranges, rows past the floors and due rows, at one snapshot.
    pub(in crate::simulation) fn read(
        &self,
        plan: &Plan,
        limits: &ReadLimits,
        due_after: i64,
        now: Micros,
    ) -> ReadReply {
        let mut taking = Taking::new(limits, now);
        let mut reply = ReadReply { last_seq: self.last_seq, ..ReadReply::default() };
        reply.observed.snapshot = self.snapshot();
        self.take_late(plan, &mut taking, &mut reply);
        self.take_hot(plan, &mut taking, &mut reply);
        reply.due_after = self.take_due(plan, due_after, &mut taking);
        reply.batch = taking.into_batch();
        reply.batch.leases = self.leases_of(plan.hot.iter().map(|hot| hot.shard));
        let shards: Vec<ShardId> = plan.hot.iter().map(|hot| hot.shard).collect();
        reply.batch.next_due_in = self.next_due_in(&shards, now);
        reply
    }

    /// Pending rows from `cursor` to the floors, and where to go on; `None` at the end.
    pub(in crate::simulation) fn sweep(
        &self,
        floors: &[(ShardId, i64)],
        cursor: (ShardId, i64),
        limits: &ReadLimits,
        now: Micros,
    ) -> (Batch, Option<(ShardId, i64)>) {
        let mut taking = Taking::new(limits, now);
        let leases = self.leases_of(floors.iter().map(|&(shard, _)| shard));
        for &(shard, floor) in floors.iter().filter(|(shard, _)| *shard >= cursor.0) {
            let after = if shard == cursor.0 { cursor.1 } else { 0 };
            for (&(_, seq), row) in self.range(shard, after, floor).filter(|(_, row)| !row.waits(now)) {
                if !taking.take(row) {
                    return (Batch { leases, ..taking.into_batch() }, Some((shard, seq - 1)));
                }
            }
        }
        (Batch { leases, ..taking.into_batch() }, None)
    }

    pub(super) fn leases_of(&self, shards: impl Iterator<Item = ShardId>) -> Vec<Lease> {
        let lease = |shard: ShardId| {
            let row = self.leases.get(usize::from(shard.0))?;
            Some(Lease { shard, epoch: row.epoch, control_version: row.control_version })
        };
        shards.filter_map(lease).collect()
    }

    fn take_late(&self, plan: &Plan, taking: &mut Taking<'_>, reply: &mut ReadReply) {
        let mut by_shard: BTreeMap<ShardId, Vec<LateRange>> = BTreeMap::new();
        for range in &plan.late {
            if range.watch.is_none_or(|xid| reply.observed.snapshot.has_ended(xid)) {
                by_shard.entry(range.shard).or_default().push(*range);
            }
        }
        for (shard, ranges) in by_shard {
            let rows: BTreeMap<i64, &Row> = ranges
                .iter()
                .flat_map(|range| self.range(shard, range.after, range.upto))
                .map(|(&(_, seq), row)| (seq, row))
                .collect();
            let Some(stopped_at) = rows.into_iter().find_map(|(seq, row)| (!taking.take(row)).then_some(seq)) else {
                continue;
            };
            let unread = ranges.into_iter().filter(|range| range.upto >= stopped_at);
            reply.observed.cut.extend(unread.map(|range| (range, range.after.max(stopped_at - 1))));
        }
    }

    fn take_hot(&self, plan: &Plan, taking: &mut Taking<'_>, reply: &mut ReadReply) {
        let cut: BTreeSet<ShardId> = reply.observed.cut.iter().map(|(range, _)| range.shard).collect();
        for hot in plan.hot.iter().filter(|hot| !cut.contains(&hot.shard)) {
            let (mut top, mut stopped) = (None, false);
            for (number, (&(_, seq), row)) in self.range(hot.shard, hot.after, i64::MAX).enumerate() {
                if number == hot.limit || !taking.take(row) {
                    stopped = true;
                    taking.more = true;
                    break;
                }
                top = Some(seq);
            }
            match top {
                Some(top) => reply.observed.hot.push((hot.shard, top, stopped)),
                None if !stopped => reply.rest.push(hot.shard),
                None => {}
            }
        }
    }

    /// Rows below the floors that waited and are due now. Starts where the last read stopped, so that rows that nobody
    /// settles (of a parked key) cannot hide the others.
    fn take_due(&self, plan: &Plan, after: i64, taking: &mut Taking<'_>) -> i64 {
        let floors: Vec<(ShardId, i64)> = plan.hot.iter().map(|hot| (hot.shard, hot.after)).collect();
        let mut last = after;
        for row in self.due(&floors, after, taking.now) {
            if !taking.take(row) {
                return last;
            }
            last = row.message.seq;
        }
        0
    }

    /// Rows at or below the floors that waited and are due, those above `after` first.
    pub(super) fn due(&self, floors: &[(ShardId, i64)], after: i64, now: Micros) -> Vec<&Row> {
        let below = floors.iter().flat_map(|&(shard, floor)| self.range(shard, 0, floor)).map(|(_, row)| row);
        let mut due: Vec<&Row> = below.filter(|row| row.wake_at().is_some_and(|at| at <= now)).collect();
        due.sort_by_key(|row| (row.message.seq <= after, row.message.seq));
        due
    }

    pub(super) fn next_due_in(&self, shards: &[ShardId], now: Micros) -> Option<Duration> {
        let waiting = shards.iter().flat_map(|&shard| self.range(shard, 0, i64::MAX));
        let at = waiting.filter_map(|(_, row)| row.wake_at()).filter(|&at| at > now).min()?;
        Some(Duration::from_micros((at - now).unsigned_abs()))
    }

    pub(super) fn range(&self, shard: ShardId, after: i64, upto: i64) -> impl Iterator<Item = (&(ShardId, i64), &Row)> {
        self.rows.range((Bound::Excluded((shard, after)), Bound::Included((shard, upto.max(after)))))
    }
}

/// A batch being filled within its limits.
pub(in crate::simulation) struct Taking<'a> {
    limits: &'a ReadLimits,
    now: Micros,
    batch: Batch,
    bytes: usize,
    taken: BTreeSet<i64>,
    pub(in crate::simulation) more: bool,
}

impl<'a> Taking<'a> {
    pub(in crate::simulation) fn new(limits: &'a ReadLimits, now: Micros) -> Self {
        Self { limits, now, batch: Batch::default(), bytes: 0, taken: BTreeSet::new(), more: false }
    }

    /// Takes a row as what it is; `false` when a limit is reached, and then the row was not taken.
    pub(in crate::simulation) fn take(&mut self, row: &Row) -> bool {
        let message = &row.message;
        if self.taken.contains(&message.seq) {
            return true;
        }
        if row.waits(self.now) {
            if let (true, Some(lane)) = (message.attempts > 0, message.lane()) {
                self.batch.held.push(HeldHead { position: message.position(), lane });
            }
            return true;
        }
        let size = message.payload.0.len();
        let too_large = (size > self.limits.max_message_bytes).then_some(DeadReason::TooLarge);
        let refused = row.undecodable.then_some(DeadReason::Undecodable).or(too_large);
        let full = self.batch.messages.len() + self.batch.refused.len() >= self.limits.rows
            || (refused.is_none() && !self.batch.messages.is_empty() && self.bytes + size > self.limits.bytes);
        if full {
            self.more = true;
            return false;
        }
        self.taken.insert(message.seq);
        if let Some(reason) = refused {
            self.batch.refused.push(Refused { position: message.position(), lane: message.lane(), reason });
        } else {
            self.bytes += size;
            self.batch.messages.push(message.clone());
        }
        true
    }

    pub(in crate::simulation) fn into_batch(mut self) -> Batch {
        self.batch.messages.sort_by_key(|message| (message.shard, message.seq));
        self.batch.more = self.more;
        self.batch
    }
}
