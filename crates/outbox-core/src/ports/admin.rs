use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Position, StorageError};

/// Dead letters and parked keys, for operators and their tools.
///
/// # Contract
///
/// Every change bumps the `control_version` of the shard's lease in the same transaction, so that the relay that owns the shard
/// reads its parked keys again and finds replayed rows.
///
/// # Ordering
///
/// A replayed message keeps its `seq`. When its key is parked, it goes first, in order. When the policy `Continue`
/// let its followers pass, it is out of order: that cannot be undone.
///
/// # Cancellation
///
/// See [`Storage`](super::Storage).
#[async_trait]
pub trait Admin: Send + Sync {
    /// Dead letters, oldest first (by `seq`), starting after `after_seq`, at most `limit`.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError>;

    /// Makes a dead letter pending again with its `seq` and no attempts, and unparks its key unless another dead letter that still exists
    /// parked it. `false`: there is no such dead letter.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn replay(&self, id: Uuid) -> Result<bool, StorageError>;

    /// Deletes a dead letter for good, and unparks its key as [`replay`](Self::replay) does. `false`: there is no such dead letter.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn discard(&self, id: Uuid) -> Result<bool, StorageError>;

    /// Parks a key: its messages wait. Messages in flight still go out. `false`: it was parked already.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError>;

    /// Lets a parked key go on, in order, whoever or whatever parked it: its messages pass a dead letter that it waits for. `false`: it was not parked.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError>;
}

/// A dead letter, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the message was.
    pub position: Position,
    /// What changed.
    pub aggregate_type: String,
    /// Which one.
    pub aggregate_id: Option<String>,
    /// What happened.
    pub event_type: String,
    /// Why, as [`DeadReason::as_str`](super::DeadReason::as_str).
    pub reason: String,
    /// For people.
    pub error: String,
    /// Failed attempts.
    pub attempts: u32,
    /// Whether the broker may have taken it.
    pub outcome_unknown: bool,
    /// When it became a dead letter, by the database's clock.
    pub died_at: OffsetDateTime,
}
