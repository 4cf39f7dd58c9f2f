use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::order::{Horizon, Observed, Plan, SnapshotTracker, TrackerMode};
use outbox_core::ports::{Batch, ReadLimits, Reader, ShardId, StorageError};

use super::Shared;
use super::call::Client;
use super::sweep::SweepCursor;
use crate::simulation::Defect;
use crate::simulation::database::ReadReply;

/// Reads as the PostgreSQL adapter does: one statement at one snapshot, planned by the real tracker.
pub(super) struct SimReader {
    client: Client,
    shared: Arc<Shared>,
    tracker: SnapshotTracker,
    sweep: SweepCursor,
    due_after: i64,
    /// What the defect of a common floor hides.
    hidden_upto: Vec<(ShardId, i64)>,
    /// What the defect of an old list goes by.
    listed_before: BTreeSet<u64>,
}

impl SimReader {
    pub(super) fn new(client: Client, shared: Arc<Shared>) -> Self {
        let mode = match client.world.scenario.defect {
            Some(Defect::OwnRunningList) => TrackerMode::OwnRunningList,
            Some(Defect::FloorWithoutSweep) => TrackerMode::FloorOnly,
            _ => TrackerMode::Horizon,
        };
        let tracker = SnapshotTracker::new(mode);
        let sweep = SweepCursor::default();
        Self { client, shared, tracker, sweep, due_after: 0, hidden_upto: Vec::new(), listed_before: BTreeSet::new() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.client.world.scenario.defect == Some(defect)
    }

    /// A horizon of the reader's own, when no settle gives one: the sequence's last value, then a new transaction.
    async fn make_horizon(&self) -> Result<(), StorageError> {
        let (world, shared) = (self.client.world.clone(), self.shared.clone());
        let horizon = self.client.call_long("horizon", async move {
            let last_seq = world.lock().database.last_seq();
            let pause = world.roll(|dice| dice.millis(0, 3));
            tokio::time::sleep(pause).await;
            world.step(|state| {
                let next_xid = state.database.begin_xid();
                state.database.end_xid(next_xid);
                Horizon { last_seq, next_xid }
            })
        });
        shared.advance(horizon.await?);
        Ok(())
    }

    /// Transactions that need not be watched, listed after the horizon and before the read. Not every read asks.
    async fn list_idle(&mut self) -> Result<BTreeSet<u64>, StorageError> {
        if self.client.world.roll(|dice| dice.once_in(2)) {
            return Ok(BTreeSet::new());
        }
        let idle = self.client.call("idle", |state| state.database.idle()).await?;
        if self.has(Defect::IdleListedBeforeHorizon) {
            return Ok(std::mem::replace(&mut self.listed_before, idle));
        }
        Ok(idle)
    }

    async fn query(&self, plan: Plan, limits: ReadLimits) -> Result<ReadReply, StorageError> {
        let due_after = self.due_after;
        if !self.has(Defect::HotReadOverStraggler) {
            let read = move |state: &mut crate::simulation::world::State| {
                state.database.read(&plan, &limits, due_after, state.clock())
            };
            return self.client.call("read", read).await;
        }
        let world = self.client.world.clone();
        let two_statements = async move {
            let late = Plan { hot: Vec::new(), late: plan.late.clone() };
            let mut first = world.step(|state| state.database.read(&late, &limits, 0, state.clock()));
            let between = world.roll(|dice| dice.millis(1, 15));
            tokio::time::sleep(between).await;
            let cut: Vec<ShardId> = first.observed.cut.iter().map(|(range, _)| range.shard).collect();
            let hot = plan.hot.into_iter().filter(|hot| !cut.contains(&hot.shard)).collect();
            let hot = Plan { hot, late: Vec::new() };
            let rows = limits.rows.saturating_sub(first.batch.messages.len()).max(1);
            let limits = ReadLimits { rows, ..limits };
            let second = world.step(|state| state.database.read(&hot, &limits, due_after, state.clock()));
            first.observed.hot = second.observed.hot;
            first.rest = second.rest;
            first.last_seq = first.last_seq.min(second.last_seq);
            first.due_after = second.due_after;
            first.batch.messages.extend(second.batch.messages);
            first.batch.messages.sort_by_key(|message| (message.shard, message.seq));
            first.batch.messages.dedup_by_key(|message| message.seq);
            first.batch.held.extend(second.batch.held);
            first.batch.refused.extend(second.batch.refused);
            first.batch.more |= second.batch.more;
            first.batch.next_due_in = second.batch.next_due_in;
            first
        };
        self.client.call_long("read", two_statements).await
    }
}

#[async_trait]
impl Reader for SimReader {
    fn assign(&mut self, shards: &[ShardId]) {
        if self.has(Defect::CommonFloor) {
            let common = self.tracker.floors().map(|(_, floor)| floor).max().unwrap_or(0);
            let known: Vec<ShardId> = self.tracker.floors().map(|(shard, _)| shard).collect();
            self.hidden_upto.retain(|(shard, _)| shards.contains(shard));
            let new = shards.iter().filter(|shard| !known.contains(shard));
            self.hidden_upto.extend(new.map(|&shard| (shard, common)));
        }
        self.tracker.assign(shards);
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.tracker.rewind(shard, from_seq);
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.shared.horizon().is_none() || self.tracker.wants_horizon() {
            self.make_horizon().await?;
        }
        if let Some(horizon) = self.shared.horizon() {
            self.tracker.advance_horizon(horizon);
        }
        let idle = self.list_idle().await?;
        let mut reply = self.query(self.tracker.plan(limits.rows), *limits).await?;
        reply.observed.idle = idle;
        self.shared.saw_seq(reply.last_seq);
        let Observed { snapshot, .. } = &reply.observed;
        let (relay, batch) = (self.client.relay, &reply.batch);
        self.client.world.lock().note(|| {
            let seqs: Vec<i64> = batch.messages.iter().map(|message| message.seq).collect();
            let held: Vec<i64> = batch.held.iter().map(|held| held.position.seq).collect();
            format!(
                "relay {relay} read {seqs:?}, held {held:?}, xmax {}, running {:?}",
                snapshot.xmax, snapshot.running
            )
        });
        self.tracker.observe(&reply.observed);
        self.tracker.rest(reply.rest);
        self.due_after = reply.due_after;
        let mut batch = reply.batch;
        let hidden = &self.hidden_upto;
        batch
            .messages
            .retain(|message| !hidden.iter().any(|&(shard, upto)| message.shard == shard && message.seq <= upto));
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.has(Defect::FloorWithoutSweep) {
            return Ok(Batch::default());
        }
        let floors = self.tracker.floors().collect();
        self.sweep.next(&self.client, floors, limits).await
    }
}
