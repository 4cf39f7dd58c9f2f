use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::NewMessage;
use outbox_core::ports::*;
use outbox_testkit::BoxError;
use outbox_testkit::memory::{MemoryStorage, MemoryTransaction};
use outbox_testkit::storage_suite::{PendingRow, StorageFixture, TestDatabase, TestTransaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::defect::Defect;
use crate::faulty_reader::FaultyReader;

const SHARDS: u16 = 4;

/// The in-memory storage with a defect.
pub(crate) struct FaultyFixture(pub(crate) Defect);

#[derive(Clone)]
struct Faulty {
    inner: MemoryStorage,
    defect: Defect,
    /// Who owns what, as far as the storage would have to look it up for its defect.
    owners: Arc<Mutex<BTreeMap<ShardId, (RelayId, Lease)>>>,
}

impl Faulty {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn holder(&self, shard: ShardId) -> Option<(RelayId, Lease)> {
        self.owners.lock().unwrap().get(&shard).cloned()
    }

    /// With whose authority a fenced write is made.
    fn authority(&self, owner: Uuid, lease: &Lease) -> (Uuid, Lease) {
        match self.holder(lease.shard) {
            Some((holder, current)) if self.is(Defect::FencesNothing) => (holder.owner, current),
            Some((holder, current)) if self.is(Defect::IgnoresTheEpoch) && holder.owner == owner => (owner, current),
            _ => (owner, *lease),
        }
    }

    fn key(&self, key: &str) -> String {
        if self.is(Defect::FoldsKeys) { key.to_lowercase() } else { key.to_owned() }
    }
}

#[async_trait]
impl Storage for Faulty {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        self.inner.check().await
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        let (inner, defect) = (self.inner.reader().await?, self.defect);
        let (youngest, held_back) = (BTreeMap::new(), Vec::new());
        Ok(Box::new(FaultyReader { inner, defect, shards: SHARDS, youngest, held_back }))
    }

    fn leases(&self) -> &dyn Leases {
        self
    }

    fn settler(&self) -> &dyn Settler {
        self
    }

    fn admin(&self) -> &dyn Admin {
        self
    }

    async fn notifier(&self) -> Result<Option<Box<dyn Notifier>>, StorageError> {
        self.inner.notifier().await
    }
}

#[async_trait]
impl Leases for Faulty {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        let accepting = accepting || self.is(Defect::CountsEveryRelay);
        let mut beat = self.inner.heartbeat(relay, lease, accepting).await?;
        if self.is(Defect::RevivesExpiredLeases) && beat.held.is_empty() {
            beat.held = self.inner.acquire(relay, lease, usize::MAX).await?;
        }
        if self.is(Defect::HidesTheControlVersion) {
            beat.held.iter_mut().for_each(|lease| lease.control_version = 0);
        }
        Ok(beat)
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        let limit = if self.is(Defect::AcquiresBeyondTheLimit) { usize::MAX } else { limit };
        let lease = match self.defect {
            Defect::KeepsLeasesForEver => lease * 1_000,
            Defect::ExpiresLeasesEarly => lease / 2,
            _ => lease,
        };
        let taken = self.inner.acquire(relay, lease, limit).await?;
        self.owners.lock().unwrap().extend(taken.iter().map(|lease| (lease.shard, (relay.clone(), *lease))));
        Ok(taken)
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        if !self.is(Defect::ReleasesForAnyone) {
            return self.inner.release(relay, leases).await;
        }
        for (holder, lease) in leases.iter().filter_map(|lease| self.holder(lease.shard)) {
            self.inner.release(&holder, &[lease]).await?;
        }
        Ok(())
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        if self.is(Defect::NeverResigns) { Ok(()) } else { self.inner.resign(relay).await }
    }
}

#[async_trait]
impl Settler for Faulty {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        let mut delivered = delivered.to_vec();
        if self.is(Defect::SettlesHalf) {
            delivered.truncate(delivered.len().div_ceil(2));
        }
        if self.is(Defect::SettlesWhateverTheId) {
            for row in MemoryStorage::pending(&self.inner) {
                let same_seq = delivered.iter_mut().filter(|position| position.seq == row.seq);
                same_seq.for_each(|position| *position = row.position());
            }
        }
        self.inner.settle(&delivered).await
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        let (owner, lease) = self.authority(owner, lease);
        self.inner.retry_later(owner, &lease, mark).await
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        let (owner, lease) = self.authority(owner, lease);
        let mut burial = burial.clone();
        burial.park_key &= !self.is(Defect::NeverParksWithABurial);
        burial.park_key |= self.is(Defect::AlwaysParksWithABurial);
        burial.outcome_unknown &= !self.is(Defect::ForgetsThatTheOutcomeIsUnknown);
        self.inner.bury(owner, &lease, &burial).await
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        self.inner.parked_keys(shards).await
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        if self.is(Defect::SeesNoBacklog) { Ok(Backlog::default()) } else { self.inner.backlog().await }
    }
}

#[async_trait]
impl Admin for Faulty {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let after_seq = if self.is(Defect::ListsDeadLettersFromTheStart) { 0 } else { after_seq };
        self.inner.dead_letters(after_seq, limit).await
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        let letters = self.inner.dead_letters(0, usize::MAX).await?;
        let replayed = self.inner.replay(id).await?;
        let letter = letters.into_iter().find(|letter| letter.position.id == id);
        let key = letter.as_ref().and_then(|letter| Some((&letter.aggregate_type, letter.aggregate_id.as_ref()?)));
        if let (Some((kind, key)), true) = (key, self.is(Defect::UnparksForAnyDeadLetter)) {
            self.inner.unpark(kind, key).await?;
        }
        if let (Some(letter), true) = (letter, self.is(Defect::ReplaysWithAttempts)) {
            let (holder, lease) = self.holder(letter.position.shard).expect("a burial needs an owner");
            let (position, attempts) = (letter.position, letter.attempts);
            let mark = FailureMark { position, attempts, delay: Duration::ZERO, error: String::new() };
            self.inner.retry_later(holder.owner, &lease, &mark).await?;
        }
        Ok(replayed)
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        self.inner.discard(id).await
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let is_new = self.inner.park(aggregate_type, &self.key(aggregate_id)).await?;
        Ok(is_new || self.is(Defect::ParksTwice))
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        self.inner.unpark(aggregate_type, &self.key(aggregate_id)).await
    }
}

#[async_trait]
impl StorageFixture for FaultyFixture {
    async fn fresh(&self) -> Result<Box<dyn TestDatabase>, BoxError> {
        Ok(Box::new(Faulty { inner: MemoryStorage::new(SHARDS), defect: self.0, owners: Arc::default() }))
    }
}

#[async_trait]
impl TestDatabase for Faulty {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    async fn begin(&self) -> Result<Box<dyn TestTransaction>, BoxError> {
        Ok(Box::new(FaultyTransaction { inner: self.inner.begin(), defect: self.defect }))
    }

    fn concurrent_writers(&self) -> bool {
        !self.is(Defect::LiesAboutWriters)
    }

    async fn now(&self) -> Result<OffsetDateTime, BoxError> {
        Ok(self.inner.now())
    }

    async fn pending(&self) -> Result<Vec<PendingRow>, BoxError> {
        TestDatabase::pending(&self.inner).await
    }

    async fn drop_database(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

struct FaultyTransaction {
    inner: MemoryTransaction,
    defect: Defect,
}

#[async_trait]
impl TestTransaction for FaultyTransaction {
    async fn append(&mut self, message: &NewMessage) -> Result<(), BoxError> {
        let mut message = message.clone();
        if self.defect == Defect::LosesHeaders {
            message.headers.clear();
        }
        self.inner.append(&message)?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        self.inner.commit();
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<(), BoxError> {
        if self.defect == Defect::PublishesGhosts {
            self.inner.commit();
        }
        Ok(())
    }
}
