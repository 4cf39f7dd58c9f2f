//! Reading in a safe order: floors and a watch list by [`outbox_core::order`], one statement a read, and a dirty read when it is
//! time for one.

mod found;
mod sort_out;
mod sql;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use outbox_core::order::WatchTracker;
use outbox_core::ports::{Batch, Lease, ReadLimits, Reader, ShardId, StorageError};
use tokio::sync::broadcast;

use super::connector::{Connector, Isolation, Limits};
use super::error::unexpected_reply;
use super::row::{big, shard, take_bytes, uuid};
use super::session::Session;
use super::shared::{Shared, Wake};
use crate::Tables;
use crate::reading::{Appetite, DueTimes, Found, SweepCursors, Take};
use found::{Reply, found};
use sort_out::Asked;
use sql::Statement;

const READ: &str = "read messages";
const LOOK: &str = "look for late commits";

/// What the client waits past the server's own limit.
const GRACE: Duration = Duration::from_secs(2);

/// Room in a packet beside the payload: a row over the server's `max_allowed_packet` could never be sent.
const PACKET_OVERHEAD: usize = 256 << 10;

/// The reader of one run of one relay.
///
/// Its two connections are its own for as long as it lives. When one is lost, every later call fails with `Unavailable` and the relay
/// makes a new reader, which starts at the bottom: what this one knows may not hold on the server that a new connection reaches.
pub(super) struct MysqlReader {
    committed: Session,
    dirty: Session,
    tables: Tables,
    timeout: Duration,
    /// The largest payload that the server can send.
    packet_bytes: usize,
    wakes: broadcast::Receiver<Wake>,
    tracker: WatchTracker,
    due: DueTimes,
    sweep: SweepCursors,
    appetite: Appetite,
    /// The database's clock at the last read, and when that read returned.
    clock: Option<(i64, Instant)>,
    /// The shard that the next read serves first, so that a byte limit does not always cut the same ones.
    first: ShardId,
}

impl MysqlReader {
    /// A reader with connections of its own, and a tracker without shards.
    pub(super) async fn new(
        connector: &Connector,
        limits: Limits,
        tables: Tables,
        shared: &Arc<Shared>,
        tracker: WatchTracker,
    ) -> Result<Self, StorageError> {
        let mut committed = Session::new(connector.connect(READ, Isolation::ReadCommitted, limits).await?);
        let dirty = Session::new(connector.connect(READ, Isolation::ReadUncommitted, limits).await?);
        let timeout = limits.statement + GRACE;
        let sets = committed.run(READ, timeout, "SELECT @@max_allowed_packet").await?;
        let packet = sets.first().and_then(|set| set.rows.first()).map(|row| big(row, 0));
        let packet = packet.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| unexpected_reply(READ))?;
        Ok(Self {
            committed,
            dirty,
            tables,
            timeout,
            packet_bytes: packet.saturating_sub(PACKET_OVERHEAD).max(packet / 2),
            wakes: shared.wakes(),
            tracker,
            due: DueTimes::default(),
            sweep: SweepCursors::default(),
            appetite: Appetite::default(),
            clock: None,
            first: ShardId(0),
        })
    }

    /// Runs a read and decodes its rows.
    async fn run(&mut self, text: &str) -> Result<Reply, StorageError> {
        let sets = self.committed.run(READ, self.timeout, text).await?;
        let rows = sets.into_iter().next().ok_or_else(|| unexpected_reply(READ))?.rows;
        Reply::of(READ, rows)
    }

    /// Lists what of the passed ranges and of the watch list is there, committed or not, when it is time for that.
    async fn look(&mut self) -> Result<(), StorageError> {
        let Some(look) = self.tracker.look() else { return self.dirty.keep_alive(LOOK, self.timeout).await };
        let sets = self.dirty.run(LOOK, self.timeout, &sql::look(&self.tables, &look)).await?;
        let there: Vec<_> = sets.iter().flat_map(|set| &set.rows).map(|row| (shard(row, 0), big(row, 1))).collect();
        self.tracker.looked(&look, &there);
        Ok(())
    }

    /// Takes what the settler marked to be tried again.
    fn take_wakes(&mut self) {
        loop {
            match self.wakes.try_recv() {
                Ok((shard, wake_at, seq)) => {
                    if self.tracker.floor(shard).is_some() {
                        self.due.add(shard, (wake_at, seq));
                    }
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => {
                    let shards: Vec<_> = self.tracker.floors().map(|(shard, _)| shard).collect();
                    for shard in shards {
                        self.due.add(shard, (i64::MIN, 0));
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// The database's clock now, as far as the last read tells.
    fn clock_now(&self) -> i64 {
        self.clock.map_or(i64::MIN, |(clock, at)| clock.saturating_add(micros(at.elapsed())))
    }

    fn ask(&self, limits: &ReadLimits) -> Asked {
        let rows = self.appetite.rows(limits);
        let due: Vec<_> = self.due.at(self.clock_now()).collect();
        // Due rows get at most half of a read, so that neither they nor new ones wait for the others to end.
        let due_limit = (rows.div_ceil(2) / due.len().max(1)).max(1);
        Asked { rows, plan: self.tracker.plan(rows), due, due_limit }
    }

    fn text(&self, asked: &Asked, inline_bytes: usize) -> String {
        let mut statement = Statement::new(&self.tables, inline_bytes);
        for range in &asked.plan.hot {
            statement.range(range, None);
        }
        for range in &asked.plan.again {
            statement.again(range, range.known + asked.rows);
        }
        statement.watched(&asked.plan.keys);
        for &(shard, from) in &asked.due {
            statement.due(shard, from, self.tracker.floor(shard).unwrap_or(0), asked.due_limit);
        }
        statement.into_text()
    }

    /// Loads the rows below the floors that were not returned before, at most as many as a read may bring, and says of which shards there
    /// are more. One that is gone meanwhile was settled or moved by another, and needs nothing.
    async fn load_late(
        &mut self,
        asked: &Asked,
        again: Vec<(ShardId, i64)>,
        inline_bytes: usize,
    ) -> Result<(Vec<Found>, Vec<ShardId>), StorageError> {
        let mut unread: BTreeSet<ShardId> = BTreeSet::new();
        for range in &asked.plan.again {
            let inside =
                |&&(shard, seq): &&(ShardId, i64)| shard == range.shard && range.after < seq && seq <= range.upto;
            if again.iter().filter(inside).count() >= range.known + asked.rows {
                unread.insert(range.shard);
            }
        }
        let mut keys: Vec<_> = again.into_iter().filter(|&(shard, seq)| !self.tracker.is_known(shard, seq)).collect();
        keys.sort_unstable();
        keys.dedup();
        let start = keys.partition_point(|&(shard, _)| shard < self.first);
        keys.rotate_left(start);
        unread.extend(keys.iter().skip(asked.rows).map(|&(shard, _)| shard));
        keys.truncate(asked.rows);
        if keys.is_empty() {
            return Ok((Vec::new(), unread.into_iter().collect()));
        }
        let text = sql::rows_of(&self.tables, &keys, inline_bytes);
        let sets = self.committed.run(READ, self.timeout, &text).await?;
        let rows = sets.into_iter().flat_map(|set| set.rows).map(found).collect();
        Ok((rows, unread.into_iter().collect()))
    }

    /// Loads the payloads that did not come with their rows. A message that is gone meanwhile is left out.
    async fn load_payloads(&mut self, take: &mut Take<'_>) -> Result<(), StorageError> {
        if take.unloaded.is_empty() {
            return Ok(());
        }
        let positions: Vec<_> = take.unloaded.iter().map(|&(_, position)| position).collect();
        let text = sql::payloads_of(&self.tables, &positions);
        let sets = self.committed.run("load payloads", self.timeout, &text).await?;
        let mut payloads = BTreeMap::new();
        for mut row in sets.into_iter().flat_map(|set| set.rows) {
            let key = (shard(&row, 0), big(&row, 1), uuid(&row, 2));
            payloads.insert(key, take_bytes(&mut row, 3).unwrap_or_default());
        }
        let mut gone = BTreeSet::new();
        for &(index, position) in &take.unloaded {
            match payloads.remove(&(position.shard, position.seq, position.id)) {
                Some(payload) => take.batch.messages[index].payload.0 = payload,
                None => drop(gone.insert(position)),
            }
        }
        if !gone.is_empty() {
            take.batch.messages.retain(|message| !gone.contains(&message.position()));
        }
        Ok(())
    }

    fn assigned_only(&self, mut leases: Vec<Lease>) -> Vec<Lease> {
        leases.retain(|lease| self.tracker.floor(lease.shard).is_some());
        leases
    }

    /// The limits, with no message larger than the server can send.
    fn within_packets(&self, limits: &ReadLimits) -> ReadLimits {
        ReadLimits { max_message_bytes: limits.max_message_bytes.min(self.packet_bytes), ..*limits }
    }

    fn finish(&mut self, batch: &mut Batch, clock: i64) {
        self.clock = Some((clock, Instant::now()));
        self.take_wakes();
        batch.messages.sort_by_key(|message| (message.shard, message.seq));
        batch.messages.dedup_by_key(|message| (message.shard, message.seq));
        batch.next_due_in = self
            .due
            .earliest()
            .map(|wake_at| Duration::from_micros(wake_at.saturating_sub(clock).max(0).unsigned_abs()));
    }
}

#[async_trait]
impl Reader for MysqlReader {
    fn assign(&mut self, shards: &[ShardId]) {
        self.tracker.assign(shards);
        self.due.retain(|shard| self.tracker.floor(shard).is_some());
        self.sweep.retain(|shard| self.tracker.floor(shard).is_some());
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.tracker.rewind(shard, from_seq);
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.tracker.floors().next().is_none() {
            return Ok(Batch::default());
        }
        let limits = &self.within_packets(limits);
        self.look().await?;
        self.take_wakes();
        let asked = self.ask(limits);
        let inline_bytes = Appetite::inline_bytes(asked.rows, limits);
        let mut reply = self.run(&self.text(&asked, inline_bytes)).await?;
        let replied_at = Instant::now();
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
        let (late, unread) = self.load_late(&asked, std::mem::take(&mut reply.again), inline_bytes).await?;
        let take = Take::new(limits, reply.clock);
        let (mut take, changes) = asked.sort_out(take, reply.found, late, &unread, self.first);
        self.load_payloads(&mut take).await?;
        self.appetite.learn(take.batch.messages.len(), take.bytes_ran_out);
        self.first = changes.cut.unwrap_or(ShardId(0));
        let read = changes.apply_due(&mut self.due, reply.next_due);
        self.tracker.took(&read, replied_at);
        let mut batch = Batch { leases, ..take.batch };
        self.finish(&mut batch, reply.clock);
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let limits = &self.within_packets(limits);
        self.sweep_once(limits).await
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
