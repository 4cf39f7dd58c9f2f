//! A modelled database: transactions with ids, a sequence that no transaction rolls back, and the tables of the outbox. It shows
//! what runs in two ways: by snapshots, as PostgreSQL does, or to dirty reads, as MySQL does. Every method is one statement at one
//! moment.

mod admin;
mod dirty;
mod leases;
mod read;
mod settle;

pub(super) use dirty::Selected;
pub(super) use read::{ReadReply, Taking};
pub(super) use settle::micros;

use std::collections::{BTreeMap, BTreeSet};

use outbox_core::Message;
use outbox_core::message::LaneKey;
use outbox_core::order::Snapshot;
use outbox_core::ports::{DeadReason, ShardId};
use time::OffsetDateTime;
use uuid::Uuid;

/// Microseconds of the database's clock.
pub(super) type Micros = i64;

/// An ordering key: `aggregate_type`, `aggregate_id`.
pub(super) type Key = (String, String);

#[derive(Debug)]
pub(super) struct Database {
    shards: u16,
    next_xid: u64,
    latest_completed: u64,
    running: BTreeSet<u64>,
    /// Running transactions that have taken a `seq`.
    writing: BTreeSet<u64>,
    last_seq: i64,
    rows: BTreeMap<(ShardId, i64), Row>,
    uncommitted: dirty::Uncommitted,
    leases: Vec<LeaseRow>,
    relays: BTreeMap<Uuid, RelayRow>,
    dead: BTreeMap<Uuid, DeadRow>,
    parked: BTreeMap<Key, ParkedRow>,
}

/// A pending message.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) message: Message,
    pub(super) available_at: Option<Micros>,
    pub(super) retry_at: Option<Micros>,
    /// Holds a value that no reader can make a message of.
    pub(super) undecodable: bool,
}

#[derive(Debug, Clone, Default)]
struct LeaseRow {
    owner: Option<Uuid>,
    epoch: i64,
    expires_at: Micros,
    control_version: i64,
}

#[derive(Debug)]
struct RelayRow {
    seen_at: Micros,
    accepting: bool,
}

#[derive(Debug)]
struct DeadRow {
    row: Row,
    reason: DeadReason,
    error: String,
    outcome_unknown: bool,
    died_at: Micros,
}

#[derive(Debug)]
struct ParkedRow {
    shard: ShardId,
    /// The dead letter that parked the key; `None`: an operator did.
    dead_letter: Option<Uuid>,
}

/// A transaction of a writer. Its id is given at its first append, before the append takes a `seq`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    xid: Option<u64>,
    rows: Vec<Row>,
}

impl Database {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            shards,
            next_xid: 100,
            latest_completed: 99,
            running: BTreeSet::new(),
            writing: BTreeSet::new(),
            last_seq: 0,
            rows: BTreeMap::new(),
            uncommitted: dirty::Uncommitted::default(),
            leases: vec![LeaseRow::default(); usize::from(shards)],
            relays: BTreeMap::new(),
            dead: BTreeMap::new(),
            parked: BTreeMap::new(),
        }
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    pub(super) fn last_seq(&self) -> i64 {
        self.last_seq
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// As `pg_current_snapshot()`: `xmax` is one past the latest id that has *ended*, so ids at or above it may run.
    pub(super) fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_completed + 1;
        Snapshot { xmax, running: self.running.range(..xmax).copied().collect() }
    }

    /// Transactions that run and have taken no `seq` yet.
    pub(super) fn idle(&self) -> BTreeSet<u64> {
        self.running.difference(&self.writing).copied().collect()
    }

    /// Gives out a transaction id.
    pub(super) fn begin_xid(&mut self) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.running.insert(xid);
        xid
    }

    /// Ends a transaction, committed or not.
    pub(super) fn end_xid(&mut self, xid: u64) {
        self.writing.remove(&xid);
        if self.running.remove(&xid) {
            self.latest_completed = self.latest_completed.max(xid);
        }
    }

    /// First half of an append: the transaction gets its id.
    pub(super) fn touch(&mut self, transaction: &mut Transaction) {
        transaction.xid.get_or_insert_with(|| self.begin_xid());
    }

    /// Second half of an append: the row gets its `seq` and its shard.
    pub(super) fn insert(&mut self, transaction: &mut Transaction, mut row: Row) -> (ShardId, i64) {
        self.touch(transaction);
        self.writing.extend(transaction.xid);
        self.last_seq += 1;
        row.message.seq = self.last_seq;
        row.message.shard = self.shard_of(&row.message);
        let place = (row.message.shard, row.message.seq);
        transaction.rows.push(row);
        place
    }

    pub(super) fn commit(&mut self, transaction: Transaction) {
        self.is_no_longer_open(&transaction);
        for row in transaction.rows {
            self.rows.insert((row.message.shard, row.message.seq), row);
        }
        if let Some(xid) = transaction.xid {
            self.end_xid(xid);
        }
    }

    pub(super) fn roll_back(&mut self, transaction: Transaction) {
        self.is_no_longer_open(&transaction);
        if let Some(xid) = transaction.xid {
            self.end_xid(xid);
        }
    }

    pub(super) fn is_parked(&self, lane: LaneKey) -> bool {
        self.parked.keys().any(|(kind, id)| LaneKey::of(kind, id) == lane)
    }

    fn shard_of(&self, message: &Message) -> ShardId {
        match message.lane() {
            Some(lane) => self.shard_of_hash(lane.0),
            None => self.shard_of_hash(message.id.as_u64_pair().1),
        }
    }

    fn shard_of_key(&self, (kind, id): &Key) -> ShardId {
        self.shard_of_hash(LaneKey::of(kind, id).0)
    }

    fn shard_of_hash(&self, hash: u64) -> ShardId {
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ShardId(u16::try_from(mixed % u64::from(self.shards)).unwrap_or(0))
    }
}

impl Row {
    fn wake_at(&self) -> Option<Micros> {
        self.retry_at.or(self.available_at)
    }

    fn waits(&self, now: Micros) -> bool {
        self.wake_at().is_some_and(|at| at > now)
    }
}

pub(super) fn timestamp(micros: Micros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
