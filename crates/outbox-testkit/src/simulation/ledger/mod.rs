//! What really happened to each message, kept apart from the database and the broker, and the promises checked as it
//! happens.

mod checks;
mod record;

pub(super) use record::{Nature, Record};

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::message::LaneKey;
use outbox_core::ports::{ParkedKey, ShardId};
use tokio::time::Instant;
use uuid::Uuid;

use super::ViolationKind;
use super::database::Key;

#[derive(Debug)]
pub(super) struct Ledger {
    records: Vec<Record>,
    by_id: BTreeMap<Uuid, usize>,
    by_key: BTreeMap<Key, Vec<usize>>,
    relays: BTreeMap<usize, Beliefs>,
    ticks: u64,
    faults: Faults,
    pub(super) broken: Option<(ViolationKind, String)>,
    pub(super) duplicates: u64,
}

/// What one relay must believe, from the replies that it got.
#[derive(Debug, Default)]
struct Beliefs {
    leases: BTreeMap<ShardId, Instant>,
    /// Parked keys, each with the time when the relay read of it.
    parked: BTreeMap<(ShardId, LaneKey), Instant>,
}

/// The faults so far, for the bound of duplicates.
#[derive(Debug)]
struct Faults {
    last: Option<Instant>,
    windows: u64,
    window: u64,
    /// The database's clock was stepped: two relays may own a shard until the next heartbeat, and the window bounds nothing.
    unbounded: bool,
    /// How long a fault may still cause a duplicate of a message that was first handed over after it.
    aftermath: Duration,
}

impl Ledger {
    pub(super) fn new(window: u64, aftermath: Duration) -> Self {
        Self {
            records: Vec::new(),
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            relays: BTreeMap::new(),
            ticks: 0,
            faults: Faults { last: None, windows: 0, window, unbounded: false, aftermath },
            broken: None,
            duplicates: 0,
        }
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn find(&self, id: Uuid) -> Option<&Record> {
        self.by_id.get(&id).map(|&index| &self.records[index])
    }

    fn find_mut(&mut self, id: Uuid) -> Option<&mut Record> {
        self.by_id.get(&id).map(|&index| &mut self.records[index])
    }

    pub(super) fn fault_windows(&self) -> u64 {
        self.faults.windows
    }

    /// A fault that may cost up to `windows` in-flight windows of duplicates.
    pub(super) fn fault(&mut self, windows: u64) {
        self.faults.windows += windows;
        self.faults.last = Some(Instant::now());
    }

    /// The database's clock is stepped.
    pub(super) fn clock_stepped(&mut self) {
        self.fault(1);
        self.faults.unbounded = true;
    }

    /// An append begins: its place in the order of events.
    pub(super) fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub(super) fn appended(&mut self, record: Record) {
        let index = self.records.len();
        self.by_id.insert(record.id, index);
        if let Some(key) = &record.key {
            self.by_key.entry(key.clone()).or_default().push(index);
        }
        self.records.push(record);
    }

    pub(super) fn committed(&mut self, ids: &[Uuid]) {
        let tick = self.tick();
        for id in ids {
            if let Some(record) = self.find_mut(*id) {
                record.committed_at = Some(tick);
            }
        }
    }

    /// A relay got a reply that prolongs leases, counted from when it asked.
    pub(super) fn leased(&mut self, relay: usize, shards: impl Iterator<Item = ShardId>, until: Instant) {
        let leases = &mut self.relays.entry(relay).or_default().leases;
        for shard in shards {
            let held = leases.entry(shard).or_insert(until);
            *held = until.max(*held);
        }
    }

    /// A relay gave shards back; `None`: all.
    pub(super) fn gave_up(&mut self, relay: usize, shards: Option<Vec<ShardId>>) {
        let leases = &mut self.relays.entry(relay).or_default().leases;
        leases.retain(|shard, _| shards.as_ref().is_some_and(|shards| !shards.contains(shard)));
    }

    /// A relay got the parked keys of shards.
    pub(super) fn read_parked(&mut self, relay: usize, shards: &[ShardId], keys: &[ParkedKey]) {
        let parked = &mut self.relays.entry(relay).or_default().parked;
        let is_parked = |key: &(ShardId, LaneKey)| keys.iter().any(|parked| (parked.shard, parked.lane) == *key);
        parked.retain(|key, _| !shards.contains(&key.0) || is_parked(key));
        for key in keys {
            parked.entry((key.shard, key.lane)).or_insert_with(Instant::now);
        }
    }

    /// A promise was broken; the first one counts.
    pub(super) fn violated(&mut self, kind: ViolationKind, what: String) {
        self.broken.get_or_insert((kind, what));
    }
}
