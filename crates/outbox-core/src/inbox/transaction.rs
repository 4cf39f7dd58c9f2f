use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{ClaimToken, Identity, Incoming, OrderingKey};
use crate::ports::{Fenced, StorageError};

/// One transaction of the inbox: dedup rows, the handlers' changes, what is put aside. All of it commits, or nothing.
///
/// # Contract
///
/// - The engine calls [`admit`](Self::admit) at most once, and [`complete`](Self::complete) at most once, before anything else.
/// - Nothing that is done through the [`connection`](Self::connection) commits before [`commit`](Self::commit), also not after the database
///   has ended the transaction by itself: MySQL rolls the *whole* transaction back on a deadlock, and later statements would then commit each by itself, so
///   such a connection runs with `autocommit = 0`. No savepoints.
/// - After an error of any method the transaction is of no use: the engine drops it.
///
/// # Cancellation
///
/// Dropping the transaction, or the future of one of its methods, destroys the *connection*: it never returns to a pool, and the
/// database rolls back. That is what happens to a handler that hangs. When [`commit`](Self::commit) is dropped, the
/// transaction may have committed.
#[async_trait]
pub trait InboxTransaction: Send {
    /// What handlers get.
    type Connection: Send;

    /// The open connection.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Inserts the dedup rows (status `processed`) of these messages, sorted by identity, in one statement; then, in
    /// later statements, finds how those stand that were there, which of the keys are parked, and the horizon.
    ///
    /// - A row that another open transaction has inserted is waited for.
    /// - The rows of parked keys stay locked in share mode until the end, so that nobody unparks a key between the look and the
    ///   commit. Locks of keys come after those of dedup rows, sorted.
    /// - Keys are looked for *after* the insert: whoever waited for another's dedup row sees what that transaction parked.
    /// - A dedup row that is neither inserted nor found (purged in between) stands as [`Standing::Processed`].
    ///
    /// # Errors
    ///
    /// A [`StorageError`]; `Conflict` when another transaction was in the way.
    async fn admit(&mut self, candidates: &[Candidate]) -> Result<Admission, StorageError>;

    /// Keeps messages in the database: holds them to be processed later, or as dead letters. In the order given, each with a `seq` above
    /// all before it. The key of a held message is parked ([`ParkedBy::Held`](super::ParkedBy::Held)) unless it is parked
    /// already. The dedup row of a message with an identity, which [`admit`](Self::admit) has inserted in this transaction, becomes
    /// `held` or `dead`.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn put_aside(&mut self, messages: &[Aside]) -> Result<(), StorageError>;

    /// Takes held messages that this claim owns as processed: removes them `WHERE status = 'processing' AND claim = mine`, and sets their
    /// dedup rows (`held`) to `processed`, dedup rows first. [`Fenced::Lost`] when one of them is not this claim's any more: the engine rolls
    /// back. A claim that has run out and that nobody else took is still mine.
    ///
    /// From here to the end of the transaction nobody else can claim them.
    ///
    /// # Errors
    ///
    /// A [`StorageError`].
    async fn complete(&mut self, claim: ClaimToken, seqs: &[i64]) -> Result<Fenced, StorageError>;

    /// Reads back every dedup row that [`admit`](Self::admit) inserted, in its state, and what [`complete`](Self::complete) and
    /// [`put_aside`](Self::put_aside) did; commits when all of it is there, durably. Otherwise rolls back: a handler has swallowed an error
    /// that ended the transaction, or ended it itself.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]: `Conflict` says that nothing was committed; after any other the transaction may have committed.
    async fn commit(self) -> Result<Committed, StorageError>;

    /// Whether the connection still answers, also inside a transaction that can do nothing more. The engine asks after a handler has failed: when it does
    /// not, the database is blamed and not the message. A storage without a connection that could be lost answers `true`.
    ///
    /// It may be called after a handler has panicked; the transaction is then dropped, whatever the answer.
    async fn answers(&mut self) -> bool;

    /// Rolls back, and gives the connection back to the pool when that succeeded. Only for a transaction none of whose futures was dropped.
    async fn rollback(self);
}

/// A message to admit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which message.
    pub identity: Identity,
    /// Its ordering key. `None`: no order is wanted.
    pub key: Option<OrderingKey>,
}

/// What [`InboxTransaction::admit`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// How each candidate stands, in their order. Of two equal candidates the first is new and the second processed.
    pub standings: Vec<Standing>,
    /// Keys of the candidates that are parked, for whatever reason.
    pub parked: BTreeSet<OrderingKey>,
    /// Dedup rows of messages that were processed before this time may have been purged
    /// ([`InboxMemory::purge`](super::InboxMemory::purge)). `None`: nothing was ever purged.
    pub horizon: Option<OffsetDateTime>,
}

/// How a message stands in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not seen before: its dedup row is this transaction's.
    New,
    /// Its effects are committed, or an operator has discarded it.
    Processed,
    /// The database holds it, to be processed later.
    Held,
    /// It is a dead letter.
    Dead,
}

/// A message to keep in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Which message. `None`: it has no identity, and is a dead letter.
    pub identity: Option<Identity>,
    /// Its ordering key.
    pub key: Option<OrderingKey>,
    /// The message as it came.
    pub incoming: Incoming,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a message that is put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// `received`: stored before any attempt (durable mode). Due at once.
    Received,
    /// `waiting`: behind an earlier message of its key. Due at once, when it is the first of its key.
    Waiting,
    /// `failed`: due after the delay, by the database's clock.
    Failed {
        /// Failed attempts so far, at least 1.
        attempts: u32,
        /// Wait before the next attempt.
        delay: Duration,
        /// Why, for people; no payload, no secret. At most 2,000 characters are kept.
        error: String,
    },
    /// A dead letter.
    Dead {
        /// Failed attempts so far.
        attempts: u32,
        /// Why.
        reason: InboxDeadReason,
        /// For people; no payload, no secret. At most 2,000 characters are kept.
        error: String,
        /// Whether its key is parked ([`ParkedBy::DeadLetter`](super::ParkedBy::DeadLetter)) until an operator acts. Ignored without a key.
        park_key: bool,
    },
}

/// Why a message became a dead letter of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InboxDeadReason {
    /// It has no identity, and no function derives one.
    NoId,
    /// Its envelope or its payload cannot be decoded.
    Undecodable,
    /// No handler is registered for its type, and such messages are dead letters by choice.
    UnknownType,
    /// Its handler failed `max_attempts` times.
    AttemptsExhausted,
    /// It is older than what the inbox remembers: it may have been applied before.
    BeyondRetention,
    /// It is larger than the inbox takes.
    TooLarge,
}

impl InboxDeadReason {
    /// The text stored in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoId => "no_id",
            Self::Undecodable => "undecodable",
            Self::UnknownType => "unknown_type",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::BeyondRetention => "beyond_retention",
            Self::TooLarge => "too_large",
        }
    }
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is durable.
    Done,
    /// The transaction was not what it should be, and was rolled back.
    Broken,
}
