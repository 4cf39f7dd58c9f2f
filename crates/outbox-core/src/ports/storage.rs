use async_trait::async_trait;

use super::{Admin, Leases, Reader, Settler};

/// A database that holds the outbox: the entry to the other storage ports.
///
/// # Contract
///
/// One value serves one or more relays and is cheap to share behind an `Arc`. The ports that it hands out may be used
/// at the same time: the relay reads, settles and renews its leases concurrently, so they must not share a connection
/// on which one would wait for another. A lost connection is replaced by the adapter on the next call; that call or
/// the one that found it lost fails with [`StorageErrorKind::Unavailable`].
///
/// # Minimal implementation
///
/// See `examples/custom-storage` and `docs/custom-storage.md`: a storage may be naive (one shard, read from the bottom)
/// and is right as long as it passes the conformance suite.
///
/// # Cancellation
///
/// Dropping the future of any storage port's method leaves the database either unchanged or changed as a whole; the
/// caller does not know which. The relay therefore treats a dropped call as a lost reply.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Checks that the database can be used, at start-up and after a reconnect: the schema's version, the sequence
    /// against the rows that exist, a writable server.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Unavailable`] when it cannot be reached; [`StorageErrorKind::Refused`] when it must not be
    /// used as it is, with the fix in the message.
    async fn check(&self) -> Result<StorageProfile, StorageError>;

    /// A new reader with no shards assigned, for one run of one relay.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Unavailable`] when the database cannot be reached.
    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError>;

    /// Ownership of shards.
    fn leases(&self) -> &dyn Leases;

    /// What becomes of messages.
    fn settler(&self) -> &dyn Settler;

    /// Dead letters and parked keys.
    fn admin(&self) -> &dyn Admin;

    /// A source of wake-ups by the database, `None` when there is none or the user did not opt in.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Unavailable`] when the connection for it cannot be made; the relay polls meanwhile and asks
    /// again.
    async fn notifier(&self) -> Result<Option<Box<dyn Notifier>>, StorageError>;
}

/// Wake-ups by the database. Polling alone is always correct; this only saves time.
#[async_trait]
pub trait Notifier: Send {
    /// Waits until something may have been appended. One call may stand for many appends.
    ///
    /// # Errors
    ///
    /// When the connection is lost. The relay then polls at once, and makes a new notifier.
    ///
    /// # Cancellation
    ///
    /// Safe: a wake-up that was not returned is returned by the next call.
    async fn notified(&mut self) -> Result<(), StorageError>;
}

/// What [`Storage::check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageProfile {
    /// Number of shards, fixed by the migration. At least 1.
    pub shards: u16,
    /// The database's name and version, for logs.
    pub server: String,
}

/// What kind of failure a storage met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The database cannot be reached or is going down: try again later. Also an unknown result (a lost reply).
    Unavailable,
    /// A conflict with another transaction (deadlock, serialization, lock time-out): try again.
    Conflict,
    /// The database is reachable but must not be used as it is (schema version, grants, sequence, read-only):
    /// somebody has to act.
    Refused,
    /// The database has no space left or refuses writes for another lack of resources: try again later.
    Exhausted,
    /// Anything else.
    Other,
}

/// A failure of a storage. `Display` says what was tried and what to do; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    kind: StorageErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StorageError {
    /// An error of a kind with a message (lower-case, no trailing dot, no payload, no secret).
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// Whether trying again may help with nobody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StorageErrorKind::Unavailable | StorageErrorKind::Conflict | StorageErrorKind::Exhausted)
    }
}
