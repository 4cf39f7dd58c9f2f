use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::order::{WatchMode, WatchPlan, WatchRead, WatchTracker};
use outbox_core::ports::{Batch, ReadLimits, Reader, ShardId, StorageError};
use tokio::time::Instant;

use super::call::Client;
use super::sweep::SweepCursor;
use crate::simulation::Defect;
use crate::simulation::database::{Row, Selected, Taking};
use crate::simulation::scenario::WATCH_MARGIN_MS;
use crate::simulation::world::State;

/// Reads as the MySQL adapter does: one statement over committed rows, and a dirty read now and then, planned by the real tracker.
pub(super) struct WatchingReader {
    client: Client,
    tracker: WatchTracker,
    sweep: SweepCursor,
    due_after: i64,
    /// Whether this read moves its floors past everything that was drawn before it; else past what it found. Every other one does.
    counts: bool,
}

impl WatchingReader {
    pub(super) fn new(client: Client) -> Self {
        let defect = client.world.scenario.defect;
        let mode = match defect {
            Some(Defect::NoDirtyRead) => WatchMode::FloorOnly,
            Some(Defect::DirtyReadFirst) => WatchMode::LookFirst,
            _ => WatchMode::Watch,
        };
        let margin =
            if defect == Some(Defect::NoMargin) { Duration::ZERO } else { Duration::from_millis(WATCH_MARGIN_MS) };
        Self {
            client,
            tracker: WatchTracker::new(margin, mode),
            sweep: SweepCursor::default(),
            due_after: 0,
            counts: false,
        }
    }

    async fn look(&mut self) -> Result<(), StorageError> {
        let Some(look) = self.tracker.look() else { return Ok(()) };
        let asked = look.clone();
        let there = self.client.call("look", move |state| state.database.dirty_read(&asked)).await?;
        self.client.world.lock().note(|| {
            let seqs: Vec<i64> = there.iter().map(|&(_, seq)| seq).collect();
            format!("relay {} looks at {look:?}: {seqs:?}", self.client.relay)
        });
        self.tracker.looked(&look, &there);
        Ok(())
    }

    async fn query(&self, plan: WatchPlan, rows: usize) -> Result<Selected, StorageError> {
        let due_after = self.due_after;
        if self.client.world.scenario.defect != Some(Defect::HotReadOverWatched) {
            let read = move |state: &mut State| state.database.select(&plan, rows, due_after, state.clock());
            return self.client.call("read", read).await;
        }
        let world = self.client.world.clone();
        let two_statements = async move {
            let select =
                |plan: &WatchPlan| world.step(|state| state.database.select(plan, rows, due_after, state.clock()));
            let late = select(&plan);
            let between = world.roll(|dice| dice.millis(1, 15));
            tokio::time::sleep(between).await;
            let hot = select(&plan);
            Selected { late: late.late, cut: late.cut, ..hot }
        };
        self.client.call_long("read", two_statements).await
    }

    /// Takes rows within the limits: what the read returns, and what the tracker has to know of it.
    fn sort_out(&mut self, selected: Selected, limits: &ReadLimits) -> (Batch, WatchRead) {
        let mut taking = Taking::new(limits, selected.now);
        let mut read = WatchRead::default();
        let mut cut: BTreeSet<ShardId> = selected.cut.into_iter().collect();
        taking.more |= !cut.is_empty();
        for row in &selected.late {
            let (shard, seq) = place(row);
            if self.tracker.is_known(shard, seq) {
                continue;
            }
            if taking.take(row) {
                read.taken.push((shard, seq));
            } else {
                cut.insert(shard);
            }
        }
        for (range, rows, more) in selected.hot.iter().filter(|(range, ..)| !cut.contains(&range.shard)) {
            let (mut top, mut stopped) = (range.after, *more);
            taking.more |= *more;
            for row in rows {
                if !taking.take(row) {
                    stopped = true;
                    break;
                }
                top = row.message.seq;
                read.taken.push(place(row));
            }
            if self.counts && !stopped {
                top = top.max(selected.drawn);
            }
            read.hot.push((range.shard, top, stopped));
        }
        read.cut.extend(cut);
        let mut last = self.due_after;
        let all = selected.due.len() <= limits.rows;
        let fits = |row: &Row| taking.take(row).then(|| last = row.message.seq).is_some();
        let due_ended = selected.due.iter().all(fits) && all;
        self.due_after = if due_ended { 0 } else { last };
        let batch = Batch { leases: selected.leases, next_due_in: selected.next_due_in, ..taking.into_batch() };
        (batch, read)
    }
}

fn place(row: &Row) -> (ShardId, i64) {
    (row.message.shard, row.message.seq)
}

#[async_trait]
impl Reader for WatchingReader {
    fn assign(&mut self, shards: &[ShardId]) {
        self.tracker.assign(shards);
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.tracker.rewind(shard, from_seq);
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        self.look().await?;
        let plan = self.tracker.plan(limits.rows);
        let selected = self.query(plan, limits.rows).await?;
        let replied_at = Instant::now().into_std();
        self.counts = !self.counts;
        let (batch, read) = self.sort_out(selected, limits);
        self.client.world.lock().note(|| {
            let seqs: Vec<i64> = batch.messages.iter().map(|message| message.seq).collect();
            let held: Vec<i64> = batch.held.iter().map(|held| held.position.seq).collect();
            format!(
                "relay {} read {seqs:?}, held {held:?}, cut {:?}, floors {:?}",
                self.client.relay, read.cut, read.hot
            )
        });
        self.tracker.took(&read, replied_at);
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let floors = self.tracker.floors().collect();
        self.sweep.next(&self.client, floors, limits).await
    }
}
