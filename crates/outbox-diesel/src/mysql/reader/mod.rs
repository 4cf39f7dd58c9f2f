//! Reading in a safe order: floors and a watch list by [`outbox_core::order`], one statement a read, and a dirty read when it is
//! time for one.

mod drawn;
mod found;
mod ranges;
mod returned;
mod sort_out;
mod sql;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use outbox_core::order::WatchTracker;
use outbox_core::ports::{Batch, Lease, ReadLimits, Reader, ShardId, StorageError, StorageErrorKind};
use tokio::sync::broadcast;

use super::connector::{Connector, Isolation, Limits};
use super::error::unexpected_reply;
use super::row::{big, number, shard, take_bytes, uuid};
use super::session::{ResultSet, Session};
use super::shared::{Shared, Wake};
use crate::Tables;
use crate::reading::{Appetite, DueTimes, Found, Take};
use drawn::Drawn;
use found::{Reply, found};
use ranges::Range;
use returned::Returned;
use sort_out::{Asked, Due};
use sql::Statement;
use sweep::SweepCursor;

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
    drawn: Drawn,
    /// What was returned of the ranges that are read again.
    returned: Returned,
    due: DueTimes,
    sweep: SweepCursor,
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
            drawn: Drawn::default(),
            returned: Returned::default(),
            due: DueTimes::default(),
            sweep: SweepCursor::default(),
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

    /// As [`run`](Self::run), with the question how far the numbers are drawn when it is time for that; the answer is for the reads that
    /// follow.
    async fn run_and_count(&mut self, text: &str) -> Result<(Reply, Option<i64>), StorageError> {
        let drawn = self.drawn.highest();
        if !self.drawn.is_old() {
            return Ok((self.run(text).await?, drawn));
        }
        // The read comes first, because it opens the table: of one that it has closed MySQL tells a number that is too low by one.
        let text = format!("{text}; {}", drawn::question(&self.tables));
        let sets = self.committed.run(READ, self.timeout, &text).await?;
        let Ok([found, counter]) = <[ResultSet; 2]>::try_from(sets) else { return Err(unexpected_reply(READ)) };
        let reply = Reply::of(READ, found.rows)?;
        self.drawn.told(counter.rows.first().and_then(|row| number(row, 0)));
        self.refuse_a_counter_set_back()?;
        Ok((reply, drawn))
    }

    /// New rows below the floors would be found by nothing but the sweep, and in any order.
    fn refuse_a_counter_set_back(&self) -> Result<(), StorageError> {
        let floor = self.tracker.floors().map(|(_, floor)| floor).max().unwrap_or(0);
        match self.drawn.highest() {
            Some(highest) if highest < floor => Err(StorageError::new(
                StorageErrorKind::Unavailable,
                format!(
                    "cannot {READ}: the AUTO_INCREMENT of {} was set back from above {floor} to {}, as by TRUNCATE or ALTER TABLE: \
                     it is read from the bottom again",
                    self.tables.messages(),
                    highest + 1
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Lists what of the passed ranges and of the watch list is there, committed or not, when it is time for that.
    async fn look(&mut self) -> Result<(), StorageError> {
        let Some(look) = self.tracker.look() else { return self.dirty.keep_alive(LOOK, self.timeout).await };
        let ranges = ranges::looked_at(&look, &self.returned);
        let mut there = self.listed(ranges.iter().map(|(range, _)| range), &look.keys).await?;
        // A limit that the shards of a range share may have cut any of them: what each has, it is asked for by itself.
        let filled = ranges.iter().filter(|(range, _)| range.is_filled_by(&there));
        let apart: Vec<Range> = filled.flat_map(|(_, parts)| parts.iter().cloned()).collect();
        there.extend(self.listed(apart.iter(), &[]).await?);
        self.tracker.looked(&look, &there);
        Ok(())
    }

    /// What is there of these ranges and of these rows, committed or not.
    async fn listed(
        &mut self,
        ranges: impl Iterator<Item = &Range>,
        keys: &[(ShardId, i64)],
    ) -> Result<Vec<(ShardId, i64)>, StorageError> {
        let Some(text) = sql::look(&self.tables, ranges, keys) else { return Ok(Vec::new()) };
        let sets = self.dirty.run(LOOK, self.timeout, &text).await?;
        Ok(sets.iter().flat_map(|set| &set.rows).map(|row| (shard(row, 0), big(row, 1))).collect())
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

    fn ask(&mut self, limits: &ReadLimits) -> Asked {
        let rows = self.appetite.rows(limits);
        let plan = self.tracker.plan(rows);
        match plan.again.iter().map(|range| range.after).min() {
            Some(lowest) => self.returned.forget(lowest),
            None => self.returned.clear(),
        }
        let due = self.due.at(self.clock_now());
        let due = due.filter_map(|(shard, from)| Some((shard, from, self.tracker.floor(shard)?)));
        Asked {
            rows,
            hot: ranges::past_the_floors(&plan, rows),
            again: ranges::again(&plan, rows, &self.returned),
            // Due rows get at most half of a read, so that neither they nor new ones wait for the others to end.
            due: Due::of(due, rows.div_ceil(2).max(1)),
            plan,
        }
    }

    fn text(&self, asked: &Asked, inline_bytes: usize) -> String {
        let mut statement = Statement::new(&self.tables, inline_bytes);
        asked.hot.iter().for_each(|range| statement.rows(range));
        asked.again.iter().for_each(|range| statement.again(range));
        statement.watched(&asked.plan.keys);
        asked.due.iter().for_each(|due| statement.due(due));
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
        let filled = asked.again.iter().filter(|range| range.is_filled_by(&again));
        let mut unread: BTreeSet<ShardId> = filled.flat_map(|range| range.shards.iter().copied()).collect();
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
        let text = self.text(&asked, inline_bytes);
        let (mut reply, drawn) = self.run_and_count(&text).await?;
        let replied_at = Instant::now();
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
        let (late, unread) = self.load_late(&asked, std::mem::take(&mut reply.again), inline_bytes).await?;
        let take = Take::new(limits, reply.clock);
        let (mut take, changes) = asked.sort_out(take, reply.found, late, &unread, drawn, self.first);
        self.load_payloads(&mut take).await?;
        self.appetite.learn(take.batch.messages.len(), take.bytes_ran_out);
        self.first = changes.cut.unwrap_or(ShardId(0));
        let read = changes.apply_due(&mut self.due, reply.next_due);
        self.tracker.took(&read, replied_at);
        read.taken.iter().for_each(|&(_, seq)| self.returned.add(seq));
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
