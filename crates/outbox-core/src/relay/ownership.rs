use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ports::{Heartbeat, Lease, ParkedKey, RelayId, ShardId, Storage, StorageError, StorageErrorKind};

/// Heartbeats a lease. Six leave room for lost ones and keep a take-over within the lease and a sixth of it.
const BEATS_PER_LEASE: u32 = 6;
/// The share of a lease by which the relay stops before the database's clock can say so.
const MARGIN_PARTS: u32 = 10;

/// Which shards this relay owns, and until when by its own monotonic clock, counted from *before* the call was sent.
pub(super) struct Ownership {
    pub(super) id: RelayId,
    lease: Duration,
    total: u16,
    held: BTreeMap<ShardId, Held>,
    op: Option<BoxFuture<'static, OwnershipEvent>>,
    load: Option<BoxFuture<'static, ParkedLoaded>>,
    /// The shards of the running load.
    loading: Vec<ShardId>,
    loads: u64,
    next_beat: Instant,
    next_load: Instant,
    wanted: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: Lease,
    valid_until: Instant,
    state: HeldState,
    /// The control version as of which the parked keys are known, and that of the load that runs.
    loaded: Option<i64>,
    loading: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldState {
    /// Its parked keys are not known yet: nothing of it may be read. `reload`: an operator changed something meanwhile.
    Loading { reload: bool },
    /// Read and published. `reload`: an operator changed something.
    Active { reload: bool },
    /// No longer read; given back when everything of it is confirmed and settled, or at the deadline.
    Draining { deadline: Instant },
}

pub(super) enum OwnershipEvent {
    Beat { sent_at: Instant, result: Result<Heartbeat, StorageError> },
    Acquired { sent_at: Instant, result: Result<Vec<Lease>, StorageError> },
    Released(Result<(), StorageError>),
}

/// What a read's view of a lease means for its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    Stands,
    /// An operator changed something that is not known yet, or was not known to that read.
    Stale,
    /// The shard is another's.
    Lost,
}

impl Held {
    fn new(lease: Lease, valid_until: Instant, state: HeldState) -> Self {
        Self { lease, valid_until, state, loaded: None, loading: lease.control_version }
    }
}

/// What returned.
pub(super) enum Next {
    Event(OwnershipEvent),
    Loaded(ParkedLoaded),
}

pub(super) struct ParkedLoaded {
    pub(super) load: u64,
    pub(super) shards: Vec<ShardId>,
    pub(super) result: Result<Vec<ParkedKey>, StorageError>,
}

/// What a heartbeat changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Shards that are another's now, or whose epoch is another.
    pub(super) lost: Vec<ShardId>,
}

impl Ownership {
    pub(super) fn new(id: RelayId, lease: Duration, total: u16, now: Instant) -> Self {
        Self {
            id,
            lease,
            total,
            held: BTreeMap::new(),
            op: None,
            load: None,
            loading: Vec::new(),
            loads: 0,
            next_beat: now,
            next_load: now,
            wanted: 0,
        }
    }

    /// Waits for the running calls.
    pub(super) async fn next(&mut self) -> Next {
        let (op, load) = (&mut self.op, &mut self.load);
        let event = async {
            match op {
                Some(op) => op.await,
                None => std::future::pending().await,
            }
        };
        let loaded = async {
            match load {
                Some(load) => load.await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            biased;
            event = event => Next::Event(event),
            loaded = loaded => Next::Loaded(loaded),
        };
        match next {
            Next::Event(_) => self.op = None,
            Next::Loaded(_) => self.load = None,
        }
        next
    }

    /// Starts what is due: a heartbeat, a take-over, a release, a load of parked keys. Returns the shards that are given
    /// back: the caller forgets them before the call is first polled.
    pub(super) fn start(
        &mut self,
        storage: &Arc<dyn Storage>,
        accepting: bool,
        drained: impl Fn(ShardId) -> bool,
    ) -> Vec<ShardId> {
        let now = Instant::now();
        self.start_load(storage, now);
        if self.op.is_some() {
            return Vec::new();
        }
        let (storage, id, lease) = (storage.clone(), self.id.clone(), self.lease);
        if now >= self.next_beat {
            self.next_beat = now + self.lease / BEATS_PER_LEASE;
            self.op = Some(Box::pin(
                async move {
                    let beat = storage.leases().heartbeat(&id, lease, accepting);
                    OwnershipEvent::Beat { sent_at: now, result: in_time(lease, beat).await }
                }
                .instrument(tracing::debug_span!("outbox.heartbeat")),
            ));
        } else if self.wanted > 0 && accepting {
            let limit = std::mem::take(&mut self.wanted);
            self.op = Some(Box::pin(async move {
                let acquire = storage.leases().acquire(&id, lease, limit);
                OwnershipEvent::Acquired { sent_at: now, result: in_time(lease, acquire).await }
            }));
        } else {
            let leases = self.take_drained(now, drained);
            if !leases.is_empty() {
                let shards = leases.iter().map(|lease| lease.shard).collect();
                self.op = Some(Box::pin(async move {
                    OwnershipEvent::Released(in_time(lease, storage.leases().release(&id, &leases)).await)
                }));
                return shards;
            }
        }
        Vec::new()
    }

    fn start_load(&mut self, storage: &Arc<dyn Storage>, now: Instant) {
        if self.load.is_some() || now < self.next_load {
            return;
        }
        let shards: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| matches!(held.state, HeldState::Loading { .. } | HeldState::Active { reload: true }))
            .map(|(&shard, _)| shard)
            .collect();
        if shards.is_empty() {
            return;
        }
        self.loads += 1;
        for held in self.held.values_mut() {
            if let HeldState::Active { reload } | HeldState::Loading { reload } = &mut held.state {
                *reload = false;
            }
            held.loading = held.lease.control_version;
        }
        let (load, storage, lease) = (self.loads, storage.clone(), self.lease);
        self.loading.clone_from(&shards);
        self.load = Some(Box::pin(async move {
            let result = in_time(lease, storage.settler().parked_keys(&shards)).await;
            ParkedLoaded { load, shards, result }
        }));
    }

    fn take_drained(&mut self, now: Instant, drained: impl Fn(ShardId) -> bool) -> Vec<Lease> {
        let ready: Vec<_> = self
            .held
            .iter()
            .filter(|&(&shard, held)| match held.state {
                HeldState::Draining { deadline } => drained(shard) || now >= deadline,
                _ => false,
            })
            .map(|(&shard, held)| (shard, held.lease))
            .collect();
        ready
            .into_iter()
            .map(|(shard, lease)| {
                self.remove(shard);
                lease
            })
            .collect()
    }

    /// Takes a heartbeat's answer: prolongs, adopts, finds what is lost, and decides on the fair share.
    pub(super) fn beat(&mut self, sent_at: Instant, beat: &Heartbeat, accepting: bool) -> Changes {
        let valid_until = self.valid_until(sent_at);
        let mut changes = Changes::default();
        let mut seen = BTreeMap::new();
        for &lease in &beat.held {
            seen.insert(lease.shard, lease);
        }
        for (shard, held) in &self.held {
            if seen.get(shard).is_none_or(|lease| lease.epoch != held.lease.epoch) {
                changes.lost.push(*shard);
            }
        }
        for (shard, lease) in seen {
            if changes.lost.contains(&shard) {
                continue; // adopted with its new epoch at the next beat, when the old one is cleaned up
            }
            let state = HeldState::Loading { reload: false };
            let held = self.held.entry(shard).or_insert(Held::new(lease, valid_until, state));
            if held.lease.control_version != lease.control_version
                && let HeldState::Active { reload } | HeldState::Loading { reload } = &mut held.state
            {
                *reload = true;
            }
            held.lease = lease;
            held.valid_until = valid_until;
        }
        self.balance(beat.accepting_relays, accepting);
        changes
    }

    fn balance(&mut self, accepting_relays: usize, accepting: bool) {
        let share = if accepting {
            usize::from(self.total).div_ceil(accepting_relays.max(1))
        } else if accepting_relays > 0 {
            0 // this relay cannot deliver, and a peer can
        } else {
            self.held.len()
        };
        let staying = self.held.values().filter(|held| !matches!(held.state, HeldState::Draining { .. })).count();
        self.wanted = if accepting { share.saturating_sub(self.held.len()) } else { 0 };
        self.drain_last(staying.saturating_sub(share));
    }

    fn drain_last(&mut self, count: usize) {
        let deadline = Instant::now() + self.lease;
        self.held
            .values_mut()
            .rev()
            .filter(|held| !matches!(held.state, HeldState::Draining { .. }))
            .take(count)
            .for_each(|held| held.state = HeldState::Draining { deadline });
    }

    /// Stops reading everything.
    pub(super) fn drain_all(&mut self) {
        self.wanted = 0;
        self.drain_last(usize::MAX);
    }

    pub(super) fn acquired(&mut self, sent_at: Instant, leases: &[Lease]) {
        let valid_until = self.valid_until(sent_at);
        for &lease in leases {
            let state = HeldState::Loading { reload: false };
            self.held.insert(lease.shard, Held::new(lease, valid_until, state));
        }
    }

    fn valid_until(&self, sent_at: Instant) -> Instant {
        sent_at + self.lease - self.lease / MARGIN_PARTS
    }

    /// The parked keys of these shards are known: they may be read.
    pub(super) fn activate(&mut self, shards: &[ShardId]) {
        for shard in shards {
            let Some(held) = self.held.get_mut(shard) else { continue };
            held.loaded = Some(held.loading);
            if let HeldState::Loading { reload } = held.state {
                held.state = HeldState::Active { reload };
            }
        }
    }

    /// Compares a lease as a read saw it with what is known of it.
    pub(super) fn fence(&mut self, seen: &Lease) -> Fence {
        let Some(held) = self.held.get_mut(&seen.shard) else { return Fence::Stands };
        if seen.epoch > held.lease.epoch {
            return Fence::Lost;
        }
        if seen.epoch < held.lease.epoch {
            return Fence::Stale; // a slow read from before this relay took the shard again
        }
        if held.loaded == Some(seen.control_version) {
            return Fence::Stands;
        }
        if seen.control_version > held.lease.control_version {
            held.lease.control_version = seen.control_version;
            if let HeldState::Active { reload } | HeldState::Loading { reload } = &mut held.state {
                *reload = true;
            }
        }
        Fence::Stale
    }

    /// The parked keys of a shard may be others by now.
    pub(super) fn reload(&mut self, shard: ShardId) {
        self.load_failed(&[shard], Duration::ZERO);
    }

    /// A load failed: these shards are loaded again later.
    pub(super) fn load_failed(&mut self, shards: &[ShardId], retry_in: Duration) {
        self.next_load = Instant::now() + retry_in;
        for shard in shards {
            if let Some(held) = self.held.get_mut(shard)
                && matches!(held.state, HeldState::Active { .. })
            {
                held.state = HeldState::Active { reload: true };
            }
        }
    }

    /// Number of loads of parked keys so far.
    pub(super) fn loads(&self) -> u64 {
        self.loads
    }

    /// Removes the shards whose lease has run out by the relay's own count.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<ShardId> {
        let expired: Vec<_> =
            self.held.iter().filter(|(_, held)| now >= held.valid_until).map(|(&shard, _)| shard).collect();
        for &shard in &expired {
            self.remove(shard);
        }
        if !expired.is_empty() {
            self.next_beat = self.next_beat.min(now);
        }
        expired
    }

    /// Forgets a shard. A load of parked keys that is running began before it can be owned again, so it starts again.
    pub(super) fn remove(&mut self, shard: ShardId) {
        self.held.remove(&shard);
        if self.loading.contains(&shard) && self.load.take().is_some() {
            let loading = std::mem::take(&mut self.loading);
            self.load_failed(&loading, Duration::ZERO);
        }
    }

    pub(super) fn lease(&self, shard: ShardId) -> Option<Lease> {
        self.held.get(&shard).map(|held| held.lease)
    }

    pub(super) fn is_active(&self, shard: ShardId) -> bool {
        self.held.get(&shard).is_some_and(|held| matches!(held.state, HeldState::Active { .. }))
    }

    pub(super) fn active(&self) -> Vec<ShardId> {
        self.held.keys().copied().filter(|&shard| self.is_active(shard)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// When something is due next.
    pub(super) fn next_action(&self) -> Instant {
        let expiry = self.held.values().map(|held| held.valid_until).min();
        let deadline = self.held.values().filter_map(|held| match held.state {
            HeldState::Draining { deadline } => Some(deadline),
            _ => None,
        });
        let load = self
            .held
            .values()
            .any(|held| matches!(held.state, HeldState::Loading { .. } | HeldState::Active { reload: true }))
            .then_some(self.next_load)
            .filter(|_| self.load.is_none());
        let beat = self.op.is_none().then_some(self.next_beat);
        [expiry, deadline.min().filter(|_| self.op.is_none()), load, beat]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_beat + self.lease)
    }
}

/// A call that must not outlive a lease: a frozen database would hold the relay's only heartbeat.
async fn in_time<T>(lease: Duration, call: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
    match tokio::time::timeout(lease, call).await {
        Ok(result) => result,
        Err(_) => Err(StorageError::new(StorageErrorKind::Unavailable, "the database did not answer within a lease")),
    }
}
