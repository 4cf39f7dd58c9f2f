use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{ShardId, StorageError};

/// Which relay owns which shard, by the *database's* clock.
///
/// # Contract
///
/// - A lease row per shard holds owner, epoch, `expires_at` and `control_version`. A shard has at most one owner whose
///   lease has not expired.
/// - The epoch grows by one with every [`acquire`](Self::acquire) and never otherwise: (owner, epoch) fences the writes
///   in [`Settler`](super::Settler).
/// - Time is the database's clock at the moment of the statement (`clock_timestamp()`, not the transaction's start).
/// - Lease rows are locked in shard order, so that two relays cannot deadlock; rows locked by another relay are skipped
///   when acquiring.
///
/// # Cancellation
///
/// See [`Storage`](super::Storage): a dropped call may or may not have happened. All methods may be repeated.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Says that the relay lives, prolongs every lease that it still owns (`owner = relay` and not expired) to now + `lease`, and returns
    /// them with the number of relays that lived within the last `lease`.
    ///
    /// `accepting` says whether this relay wants shards; `Heartbeat::accepting_relays` counts those that do. A lease that had
    /// already expired is *not* prolonged, even when nobody took it.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; the leases then run out at their old time.
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError>;

    /// Takes up to `limit` shards that have no owner or an expired lease, until now + `lease`, each with a new epoch.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; leases that were taken unseen expire by themselves or come with the next heartbeat.
    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError>;

    /// Gives these shards back (only those whose owner and epoch still match). Others can take them at once.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; the leases then expire by themselves.
    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError>;

    /// Gives everything back and forgets the relay.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; the leases and the heartbeat then expire by themselves.
    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError>;
}

/// One run of one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayId {
    /// Fresh for every run; what ownership is about.
    pub owner: Uuid,
    /// A label for people. Two relays may have the same.
    pub name: String,
}

/// An owned shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// Grows with every change of ownership.
    pub epoch: i64,
    /// Grows when an operator changed dead letters or parked keys of the shard.
    pub control_version: i64,
}

/// What a heartbeat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leases that this relay holds now, prolonged.
    pub held: Vec<Lease>,
    /// Relays that lived within the last lease and want shards, this one included when it does.
    pub accepting_relays: usize,
}
