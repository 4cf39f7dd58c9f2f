use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Consumer, Identity, Incoming, OrderingKey};
use crate::ports::StorageError;

/// Dead letters and parked keys of the inbox, for operators and their tools.
///
/// # Contract
///
/// Each change is one transaction, which takes its locks in the inbox's order.
///
/// # Ordering
///
/// A replayed message keeps its `seq` and goes first of what is held of its key. Followers that were processed meanwhile have passed it: that
/// cannot be undone.
///
/// # Cancellation
///
/// See [`InboxStorage`](super::InboxStorage).
#[async_trait]
pub trait InboxAdmin: Send + Sync {
    /// Dead letters by `seq`, starting after `after_seq`, at most `limit`.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn dead_letters(
        &self,
        consumer: &Consumer,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<InboxDeadLetter>, StorageError>;

    /// Holds a dead letter again (`waiting`, no attempts, due at once, dedup row `held`). Its key is parked as [`ParkedBy::Held`] from then on,
    /// unless an operator or another dead letter parks it: then the message waits for those too. `false`: there is no such dead letter.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn replay(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError>;

    /// Deletes a dead letter for good. Its dedup row becomes `processed` now, by the database's clock: a copy of the message is a duplicate until
    /// the row is purged. A key that it parked goes on, unless an operator or another dead letter parks it. `false`: there is no such dead letter.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn discard(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError>;

    /// Lets what follows a dead letter pass it: it stays, and parks its key no more. The key goes on unless an operator or another dead letter parks it.
    /// `false`: there is no such dead letter, or it parks no key.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn pass(&self, consumer: &Consumer, seq: i64) -> Result<bool, StorageError>;

    /// Parked keys by their bytes, starting after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn parked_keys(
        &self,
        consumer: &Consumer,
        after: Option<&OrderingKey>,
        limit: usize,
    ) -> Result<Vec<InboxParkedKey>, StorageError>;

    /// Parks a key: what comes of it is held and not processed. Messages that are being processed go on. `false`: it was parked by an operator already.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn park(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError>;

    /// Takes an operator's [`park`](Self::park) back. A dead letter that parks the key too keeps it parked, as [`ParkedBy::DeadLetter`]. Otherwise what is held
    /// of it is processed first, in order ([`ParkedBy::Held`]); with nothing held it is no longer parked. `false`: no operator has parked it.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn unpark(&self, consumer: &Consumer, key: &OrderingKey) -> Result<bool, StorageError>;
}

/// A dead letter of the inbox, with the message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxDeadLetter {
    /// Its number.
    pub seq: i64,
    /// Which message, when it has an identity.
    pub identity: Option<Identity>,
    /// Its ordering key.
    pub key: Option<OrderingKey>,
    /// The message as it came.
    pub incoming: Incoming,
    /// Why, as [`InboxDeadReason::as_str`](super::InboxDeadReason::as_str).
    pub reason: String,
    /// For people.
    pub error: String,
    /// Failed attempts.
    pub attempts: u32,
    /// When it became a dead letter, by the database's clock.
    pub died_at: OffsetDateTime,
}

/// A parked key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxParkedKey {
    /// The key.
    pub key: OrderingKey,
    /// Why.
    pub by: ParkedBy,
    /// When it was parked, by the database's clock.
    pub parked_at: OffsetDateTime,
}

/// Why a key is parked: the strongest of its reasons, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParkedBy {
    /// Messages of it are held and will be processed.
    Held,
    /// A dead letter of it waits for an operator, by the policy `ParkKey`.
    DeadLetter,
    /// An operator parked it.
    Operator,
}

impl ParkedBy {
    /// The text stored in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::DeadLetter => "dead_letter",
            Self::Operator => "operator",
        }
    }

    /// The reason of a stored text.
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Held, Self::DeadLetter, Self::Operator].into_iter().find(|by| by.as_str() == text)
    }
}
