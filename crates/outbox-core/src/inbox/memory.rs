use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Consumer, Partition};
use crate::ports::StorageError;

/// What the inbox remembers beside its messages: how far partitions were consumed, and how far back identities are known.
///
/// # Cancellation
///
/// See [`InboxStorage`](super::InboxStorage).
#[async_trait]
pub trait InboxMemory: Send + Sync {
    /// The remembered positions of a consumer.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn positions(&self, consumer: &Consumer) -> Result<Vec<RememberedPosition>, StorageError>;

    /// Remembers that everything up to and including these positions is consumed and that the *broker* knows it. A remembered position
    /// never goes back by this.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn remember(&self, consumer: &Consumer, positions: &[RememberedPosition]) -> Result<(), StorageError>;

    /// Forgets the position of a partition: an operator accepts that it starts below. `false`: none was remembered.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn forget(&self, consumer: &Consumer, partition: &Partition) -> Result<bool, StorageError>;

    /// The database's clock.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn now(&self) -> Result<OffsetDateTime, StorageError>;

    /// Removes up to `limit` dedup rows that became `processed` before `horizon`, the oldest first; returns how many. Rows that are `held` or
    /// `dead` stay as long as the message or the dead letter that they stand for, however old they are: a copy must not be taken for new
    /// while the message can still be processed. The horizon is *committed* first, so that whoever misses a removed row sees it
    /// ([`Admission::horizon`](super::Admission::horizon)); a stored horizon never goes back.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: some or none were removed.
    async fn purge(&self, consumer: &Consumer, horizon: OffsetDateTime, limit: usize) -> Result<usize, StorageError>;
}

/// How far a partition was consumed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RememberedPosition {
    /// Which partition.
    pub partition: Partition,
    /// Everything up to and including this position is consumed.
    pub position: i64,
}
