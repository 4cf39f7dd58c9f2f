use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Consumer, Identity, InboxDeadReason, Incoming, OrderingKey};
use crate::ports::{Fenced, StorageError};

/// Messages that the database keeps until they are processed: failed ones, their followers, and in durable mode all.
///
/// # Contract
///
/// - Within a key messages are processed by `seq`. A message without a key waits for nobody.
/// - A key with a held message is parked ([`ParkedBy`](super::ParkedBy)), so that later deliveries go behind it.
/// - Times are the database's clock at the moment of the statement.
/// - Every write names the claim: it changes nothing when the message is not that claim's any more.
///
/// # Cancellation
///
/// See [`InboxStorage`](super::InboxStorage). [`claim`](Self::claim) with the same token may be repeated after a lost reply: it
/// returns what the token has, and more up to the limit.
#[async_trait]
pub trait HeldQueue: Send + Sync {
    /// Takes up to `limit` messages for `lease`: they become `processing` with this token. For each key a run from its first message, when that
    /// one is due, and no message of the key is in another claim that has not run out; a message without a key when it is due. Keys parked by a
    /// dead letter or an operator are left alone. Ordered by `seq`, oldest first; a storage may return runs of one.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; what was taken unseen becomes free when the lease runs out.
    async fn claim(
        &self,
        consumer: &Consumer,
        claim: ClaimToken,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<HeldMessage>, StorageError>;

    /// Marks a failed attempt: `failed`, due after the delay, and the message is free again.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: the mark may or may not stand.
    async fn fail(&self, consumer: &Consumer, claim: ClaimToken, failure: &HeldFailure)
    -> Result<Fenced, StorageError>;

    /// Moves a message to the dead letters, with its `seq`; its dedup row becomes `dead`. When `burial.park_key`, its key is parked by it
    /// in the same transaction.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: the move may or may not have happened.
    async fn bury(&self, consumer: &Consumer, claim: ClaimToken, burial: &HeldBurial) -> Result<Fenced, StorageError>;

    /// Gives back what the claim still has; and removes those of these keys that are parked as [`ParkedBy::Held`](super::ParkedBy::Held) and
    /// of which nothing is held any more: locks the parked row, *then* looks in a new statement, then removes it, key by key in order.
    ///
    /// When it never runs after the last message of a key (a crash), the key stays parked and heals by itself: its next message is held, processed, and
    /// its claim released.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; what the claim has becomes free when the lease runs out.
    async fn release(&self, consumer: &Consumer, claim: ClaimToken, keys: &[OrderingKey]) -> Result<(), StorageError>;

    /// How much is held, at bounded cost, and when something can be claimed.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn backlog(&self, consumer: &Consumer) -> Result<HeldBacklog, StorageError>;
}

/// Names one claim. Fresh for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken(pub Uuid);

/// A held message that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMessage {
    /// Its number: the order within its key.
    pub seq: i64,
    /// Which message. `None`: a replayed dead letter that had no identity; it is decoded, and admitted, in the transaction that completes it.
    pub identity: Option<Identity>,
    /// Its ordering key.
    pub key: Option<OrderingKey>,
    /// The message as it came.
    pub incoming: Incoming,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// A failed attempt of a held message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFailure {
    /// Which message.
    pub seq: i64,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// Wait before the next attempt.
    pub delay: Duration,
    /// Why, for people; no payload, no secret. At most 2,000 characters are kept.
    pub error: String,
}

/// The end of a held message that cannot be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBurial {
    /// Which message.
    pub seq: i64,
    /// Failed attempts, the last one included.
    pub attempts: u32,
    /// Why.
    pub reason: InboxDeadReason,
    /// For people; no payload, no secret. At most 2,000 characters are kept.
    pub error: String,
    /// Whether its key is parked until an operator acts. Ignored without a key.
    pub park_key: bool,
}

/// What is held for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldBacklog {
    /// Held messages; counted up to 10,000.
    pub held: u64,
    /// Parked keys, for whatever reason; counted up to 10,000.
    pub parked_keys: u64,
    /// Dead letters; counted up to 10,000.
    pub dead_letters: u64,
    /// Until something can be claimed; zero: now. `None`: nothing will be, unless something changes. Running out of another's claim counts.
    pub next_due: Option<Duration>,
}
