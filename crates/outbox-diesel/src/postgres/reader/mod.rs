//! Reading in a safe order: floors and segments by [`outbox_core::order`], one statement a read.

mod found;
mod idle;
mod ranges;
mod skim;
mod sort_out;
mod sql;
mod sweep;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use diesel::sql_types::{Array, BigInt, SmallInt, Untyped, Uuid as SqlUuid};
use outbox_core::order::{Horizon, Snapshot, SnapshotTracker, TrackerMode};
use outbox_core::ports::{Batch, Lease, ReadLimits, Reader, ShardId, StorageError, StorageErrorKind};
use tokio::sync::broadcast;

use super::parked::ParkedRow;
use super::pool::Pool;
use super::row::Micros;
use super::shared::{Shared, Wake};
use crate::reading::{Appetite, DueTimes, Found, SweepCursors, Take};
use crate::sql::{Sql, bind};
use found::{LoadedPayload, ReadRow, Skimmed};
use idle::{IdleTransactions, Listed};
use ranges::LateRanges;
use skim::{SKIM_ROWS, Skim};
use sort_out::Asked;
use sql::{DueBinds, ReadBinds, SkimBinds};

pub(super) use sql::ReadStatements;

/// When segments wait for a horizon and no settle brings one, the reader makes it itself, at most this often: it costs a
/// transaction id.
const OWN_HORIZON_EVERY: Duration = Duration::from_millis(20);

/// A read that brought this many rows is worth two small statements so that the next one need not bring them again.
const BUSY_ROWS: usize = 256;

const READ: &str = "read messages";

/// The reader of one run of one relay.
pub(super) struct PostgresReader {
    pool: Pool,
    statements: Arc<ReadStatements>,
    shared: Arc<Shared>,
    /// When the server of the first read was started.
    started: OnceLock<String>,
    wakes: broadcast::Receiver<Wake>,
    tracker: SnapshotTracker,
    due: DueTimes,
    sweep: SweepCursors,
    skim: Skim,
    appetite: Appetite,
    /// The database's clock at the last read, and when that read returned.
    clock: Option<(i64, Instant)>,
    horizon: Option<Horizon>,
    horizon_made: Instant,
    /// Messages of the last read.
    last_rows: usize,
    idle: IdleTransactions,
    /// The shard that the next read serves first, so that a byte limit does not always cut the same ones.
    first: ShardId,
}

impl PostgresReader {
    /// A reader with a horizon of its own and no shards.
    pub(super) async fn new(
        pool: Pool,
        statements: Arc<ReadStatements>,
        shared: Arc<Shared>,
    ) -> Result<Self, StorageError> {
        let (last_value, next_xid) = own_horizon(&pool, &statements).await?;
        shared.restart(last_value, next_xid);
        Ok(Self {
            wakes: shared.wakes(),
            started: OnceLock::new(),
            pool,
            statements,
            shared,
            tracker: SnapshotTracker::new(TrackerMode::default()),
            due: DueTimes::default(),
            sweep: SweepCursors::default(),
            skim: Skim::default(),
            appetite: Appetite::default(),
            clock: None,
            horizon: None,
            horizon_made: Instant::now(),
            last_rows: 0,
            idle: IdleTransactions::default(),
            first: ShardId(0),
        })
    }

    /// Takes the newest horizon, and makes one itself when segments want it and no settle brought it since the last read, or when rows
    /// past the old one arrive in numbers: every row past the horizon is read twice.
    async fn refresh_horizon(&mut self) -> Result<(), StorageError> {
        let horizon = self.shared.horizon();
        let behind = horizon.is_none_or(|horizon| horizon.last_seq < self.shared.last_value());
        let waited =
            horizon == self.horizon && self.tracker.wants_horizon() && self.horizon_made.elapsed() >= OWN_HORIZON_EVERY;
        if waited || (behind && self.last_rows >= BUSY_ROWS) {
            let (last_value, next_xid) = own_horizon(&self.pool, &self.statements).await?;
            self.shared.advance(last_value, next_xid);
            self.horizon_made = Instant::now();
        }
        let known = std::mem::replace(&mut self.horizon, self.shared.horizon());
        if self.horizon != known {
            self.idle.suspect();
        }
        if let Some(horizon) = self.horizon {
            self.tracker.advance_horizon(horizon);
        }
        Ok(())
    }

    /// Reads the parked keys again when they may have changed.
    async fn refresh_parked(&mut self) -> Result<(), StorageError> {
        let version = self.shared.parked_version();
        if !self.skim.is_current(version) {
            let shards: Vec<_> = self.tracker.floors().map(|(shard, _)| shard_column(shard)).collect();
            let statement = Sql::<_, Untyped>::new(&self.statements.parked_keys, (bind::<Array<SmallInt>, _>(shards),));
            let parked: Vec<ParkedRow> = self.pool.load("read the parked keys", statement).await?;
            self.skim.learn(version, parked.into_iter().map(|row| row.0));
        }
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
        let plan = self.tracker.plan(rows);
        let late = LateRanges::new(&plan.late);
        let due: Vec<_> = self.due.at(self.clock_now()).collect();
        // Due rows get at most half of a read, so that neither they nor new ones wait for the others to end.
        let due_limit = (rows.div_ceil(2) / due.len().max(1)).max(1);
        let skim = plan.hot.iter().map(|range| range.shard).filter(|&shard| self.skim.is_due(shard)).collect();
        Asked { rows, plan, late, due, due_limit, skim }
    }

    fn binds(&self, asked: &Asked, limits: &ReadLimits) -> ReadBinds {
        let hot = || asked.plan.hot.iter().filter(|range| !asked.skim.contains(&range.shard));
        let floor = |&(shard, _): &(ShardId, _)| self.tracker.floor(shard).unwrap_or(0);
        ReadBinds {
            inline_bytes: count(Appetite::inline_bytes(asked.rows, limits)),
            shards: hot().map(|range| shard_column(range.shard)).collect(),
            floors: hot().map(|range| range.after).collect(),
            upto: None,
            rows: hot().map(|range| count(range.limit)).collect(),
            late: (!asked.late.is_empty()).then(|| asked.late.binds(self.skim.knows_parked_keys(), asked.rows)),
            due: (!asked.due.is_empty()).then(|| DueBinds {
                shards: asked.due.iter().map(|&(shard, _)| shard_column(shard)).collect(),
                floors: asked.due.iter().map(floor).collect(),
                wakes: asked.due.iter().map(|&(_, (wake_at, _))| Micros(wake_at)).collect(),
                seqs: asked.due.iter().map(|&(_, (_, seq))| seq).collect(),
                limit: count(asked.due_limit),
            }),
            skim: (!asked.skim.is_empty()).then(|| SkimBinds {
                shards: asked.skim.iter().map(|&shard| shard_column(shard)).collect(),
                floors: asked.skim.iter().map(|&shard| self.tracker.floor(shard).unwrap_or(0)).collect(),
                rows: SKIM_ROWS,
            }),
        }
    }

    async fn run(&self, text: &str, binds: ReadBinds) -> Result<Reply, StorageError> {
        let rows = self.pool.load(READ, Sql::<_, Untyped>::new(text, binds)).await?;
        let reply = Reply::of(rows)?;
        // The pool replaces a connection that it finds closed without a word, and a pooler in between hides it altogether. Floors and
        // horizons of another server, as after a fail-over, would skip what is new there.
        if *self.started.get_or_init(|| reply.started.clone()) == reply.started {
            Ok(reply)
        } else {
            let text = format!("cannot {READ}: the server is another one or was restarted, reading starts again");
            Err(StorageError::new(StorageErrorKind::Unavailable, text))
        }
    }

    /// Loads the payloads that did not come with their rows. A message that is gone meanwhile is left out.
    async fn load_payloads(&self, take: &mut Take<'_>) -> Result<(), StorageError> {
        if take.unloaded.is_empty() {
            return Ok(());
        }
        let positions = take.unloaded.iter().map(|(_, position)| position);
        let binds = (
            bind::<Array<SmallInt>, _>(
                positions.clone().map(|position| shard_column(position.shard)).collect::<Vec<_>>(),
            ),
            bind::<Array<BigInt>, _>(positions.clone().map(|position| position.seq).collect::<Vec<_>>()),
            bind::<Array<SqlUuid>, _>(positions.map(|position| position.id).collect::<Vec<_>>()),
        );
        let loaded: Vec<LoadedPayload> =
            self.pool.load("load payloads", Sql::<_, Untyped>::new(&self.statements.payloads, binds)).await?;
        let mut payloads: BTreeMap<i64, _> = loaded.into_iter().map(|one| (one.number, one.payload)).collect();
        let mut gone = Vec::new();
        for (number, &(index, position)) in (1..).zip(&take.unloaded) {
            match payloads.remove(&number) {
                Some(payload) => take.batch.messages[index].payload.0 = payload,
                None => gone.push(position),
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
impl Reader for PostgresReader {
    fn assign(&mut self, shards: &[ShardId]) {
        self.tracker.assign(shards);
        self.due.retain(|shard| self.tracker.floor(shard).is_some());
        self.sweep.retain(|shard| self.tracker.floor(shard).is_some());
        self.skim.forget();
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.tracker.rewind(shard, from_seq);
        if from_seq <= 0 {
            self.skim.forget();
        }
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.tracker.floors().next().is_none() {
            return Ok(Batch::default());
        }
        self.refresh_horizon().await?;
        self.take_wakes();
        self.refresh_parked().await?;
        let asked = self.ask(limits);
        let binds = self.binds(&asked, limits);
        let text = self.statements.read(binds.parts());
        // after the horizon and before the snapshot of the read: what it says holds for exactly these
        let idle = if self.last_rows >= BUSY_ROWS {
            self.idle.list(&self.pool, &self.statements).await?
        } else {
            Listed::default()
        };
        let mut reply = self.run(text, binds).await?;
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
        self.shared.read_returned(reply.last_value);
        let clock = reply.clock;
        self.idle.learn(&reply.snapshot, self.horizon);
        let idle = idle.among(&reply.snapshot);
        let (mut take, mut changes) = asked.sort_out(reply, self.first, &self.skim, limits);
        changes.spare(idle);
        self.load_payloads(&mut take).await?;
        self.last_rows = take.batch.messages.len();
        self.appetite.learn(take.batch.messages.len(), take.bytes_ran_out);
        self.first = changes.cut.unwrap_or(ShardId(0));
        changes.apply(&mut self.tracker, &mut self.due, &mut self.skim);
        let mut batch = Batch { leases, ..take.batch };
        self.finish(&mut batch, clock);
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        self.sweep_once(limits).await
    }
}

/// The rows of a read.
struct Reply {
    snapshot: Snapshot,
    last_value: i64,
    clock: i64,
    leases: Vec<Lease>,
    started: String,
    next_due: Vec<(ShardId, i64)>,
    skimmed: Vec<Skimmed>,
    found: Vec<Found>,
}

impl Reply {
    fn of(rows: Vec<ReadRow>) -> Result<Self, StorageError> {
        let mut reply = Self {
            snapshot: Snapshot::default(),
            last_value: 0,
            clock: 0,
            leases: Vec::new(),
            started: String::new(),
            next_due: Vec::new(),
            skimmed: Vec::new(),
            found: Vec::with_capacity(rows.len()),
        };
        let mut complete = false;
        for row in rows {
            match row {
                ReadRow::Meta { snapshot, leases, started, last_value, clock } => {
                    reply.started = started;
                    reply.leases = leases_of(&leases);
                    (reply.last_value, reply.clock) = (last_value, clock);
                    if let Some(snapshot) = Snapshot::parse(&snapshot) {
                        (reply.snapshot, complete) = (snapshot, true);
                    }
                }
                ReadRow::NextDue { shard, wake_at } => reply.next_due.push((shard, wake_at)),
                ReadRow::Skimmed(skimmed) => reply.skimmed.push(skimmed),
                ReadRow::Found(found) => reply.found.push(found),
            }
        }
        if complete {
            Ok(reply)
        } else {
            Err(StorageError::new(StorageErrorKind::Other, "a read came without its snapshot"))
        }
    }
}

/// Parses `shard:epoch:control_version,…`.
fn leases_of(text: &str) -> Vec<Lease> {
    let lease = |triple: &str| {
        let mut parts = triple.split(':');
        let shard = ShardId(parts.next()?.parse().ok()?);
        let (epoch, control_version) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Lease { shard, epoch, control_version })
    };
    text.split(',').filter_map(lease).collect()
}

/// The sequence's last value, and a transaction id given out after it was read.
async fn own_horizon(pool: &Pool, statements: &ReadStatements) -> Result<(i64, i64), StorageError> {
    let last_value = pool.one(READ, Sql::<_, BigInt>::new(&statements.last_value, ())).await?;
    let next_xid = pool.one(READ, Sql::<_, BigInt>::new("SELECT pg_current_xact_id()::text::int8", ())).await?;
    Ok((last_value, next_xid))
}

/// A shard as its column holds it.
pub(super) fn shard_column(shard: ShardId) -> i16 {
    i16::try_from(shard.0).unwrap_or(i16::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
