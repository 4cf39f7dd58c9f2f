use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Lease, Position, ShardId, StorageError};
use crate::message::LaneKey;

/// What becomes of a message.
///
/// # Contract
///
/// - [`settle`](Self::settle) is not fenced: a late delete of a delivered row by an old owner is right.
/// - [`retry_later`](Self::retry_later) and [`bury`](Self::bury) are: in one statement or transaction they lock the lease row
///   and check that `owner` and `lease.epoch` still stand, and change nothing otherwise ([`Fenced::Lost`]).
/// - Every statement matches (shard, seq, id). A row that is not there (settled, discarded) is no error.
///
/// # Cancellation
///
/// See [`Storage`](super::Storage). Every method may be repeated after a lost reply.
#[async_trait]
pub trait Settler: Send + Sync {
    /// Removes delivered messages. Returns when the removal is durable.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: some or none were removed; the relay repeats the call with the same positions.
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError>;

    /// Marks a failed attempt: sets `attempts`, `retry_at` (the database's clock + `mark.delay`) and `last_error`.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: the mark may or may not stand.
    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError>;

    /// Moves a message to the dead letters and, when `burial.park_key`, parks its key in the same transaction.
    /// The row moves inside the database; its payload is not loaded.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: the move may or may not have happened.
    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError>;

    /// The keys of these shards that are parked on purpose.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError>;

    /// How much is pending, at bounded cost whatever the backlog.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn backlog(&self) -> Result<Backlog, StorageError>;
}

/// Whether a fenced write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// The lease stands. The row was changed, or was no longer there.
    Done,
    /// The lease is another's; nothing was changed. The relay must stop with this shard at once.
    Lost,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureMark {
    /// Which message.
    pub position: Position,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// Wait before the next attempt.
    pub delay: Duration,
    /// Why, for people; no payload, no secret. At most 2,000 characters are kept.
    pub error: String,
}

/// A move to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// Which message.
    pub position: Position,
    /// Failed attempts, the last one included.
    pub attempts: u32,
    /// Why.
    pub reason: DeadReason,
    /// For people; no payload, no secret. At most 2,000 characters are kept.
    pub error: String,
    /// Whether the broker may have taken the message in an attempt whose outcome is not known.
    pub outcome_unknown: bool,
    /// Whether the message's key is parked with it (policy `ParkKey`). Ignored for a message without a key.
    pub park_key: bool,
}

/// Why a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// It failed `max_attempts` times.
    AttemptsExhausted,
    /// The broker or the transport refused this message for good.
    Rejected,
    /// Its payload is over `max_message_bytes`.
    TooLarge,
    /// A column holds a value that cannot be read.
    Undecodable,
}

impl DeadReason {
    /// The text stored in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Rejected => "rejected",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
        }
    }
}

/// A key parked on purpose: its messages wait until an operator acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedKey {
    /// The key's shard.
    pub shard: ShardId,
    /// The key.
    pub lane: LaneKey,
}

/// How much is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Pending messages; an estimate of the database's statistics when `estimated`.
    pub pending: u64,
    /// Whether `pending` is an estimate.
    pub estimated: bool,
    /// Age of the oldest pending message that is not waiting, by the database's clock. `None`: nothing is pending.
    pub oldest_age: Option<Duration>,
    /// Dead letters; capped at 10,000 so that the count stays cheap.
    pub dead_letters: u64,
}
