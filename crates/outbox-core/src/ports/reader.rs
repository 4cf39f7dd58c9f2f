use std::time::Duration;

use async_trait::async_trait;

use super::{Lease, Position, ShardId, StorageError};
use crate::message::{LaneKey, Message};

/// Reads what may be published next, in a safe order.
///
/// A reader belongs to one run of one relay and keeps its own place (floors, segments, watch lists) in memory.
///
/// # Contract
///
/// - [`read`](Self::read) returns messages of assigned shards only, at most `limits.rows`, and together at most
///   `limits.bytes` unless the first message alone is larger.
/// - A message that is pending (committed, not settled, not waiting, its key not held in the storage) is returned by a finite number
///   of further reads. It *may* be returned again by a later read while it is pending: the relay knows what it holds.
/// - A waiting row (`available_at` or `retry_at` in the future of the database's clock) is not returned as a message
///   until it is due; then it is, wherever the reader's floor is.
/// - A waiting row that has already failed (`attempts` above 0) and has a key is reported in [`Batch::held`] when the reader passes
///   it, before or together with the first later message of its key: it holds its followers.
/// - [`Batch::leases`] says, at the snapshot of the rows, which epoch and which control version the lease of each assigned shard has. It
///   fences reads: the relay drops the rows of a shard that was acquired by another meanwhile (a clock that jumped, a pause), because
///   what they follow may have been moved or parked by its new owner, and of a shard in which an operator changed something that
///   the relay does not know yet, because a read may have left out rows of a key that was just parked.
/// - Followers of held or parked keys may be returned or left out; the relay drops them, and asks for them again with
///   [`rewind`](Self::rewind).
/// - Rows that cannot be loaded (too large, impossible values) come in [`Batch::refused`], without their payload, and
///   never fail the batch.
///
/// # Ordering
///
/// Within a shard, messages come in ascending `seq`. Order means: m1 precedes m2 of one key if m1's transaction
/// committed before m2's append ran. *If a read returns m2, then every such m1 that is still pending and not waiting
/// was returned by an earlier read since the last rewind below it, or is returned by this read.* A storage whose transactions
/// commit out of `seq` order must look again at the ranges that its floor has passed; [`crate::order`] does that for
/// databases with snapshots.
///
/// # Cancellation
///
/// The relay never drops the future of a read and goes on with the same reader.
#[async_trait]
pub trait Reader: Send {
    /// Sets the shards to read. A shard that is new starts at the bottom; one that is gone is forgotten. Does no I/O.
    fn assign(&mut self, shards: &[ShardId]);

    /// Goes back in one shard, so that every pending row with `seq >= from_seq` is read again. Never goes forward;
    /// `from_seq` 0 starts again at the bottom. Does no I/O.
    fn rewind(&mut self, shard: ShardId, from_seq: i64);

    /// Reads the next messages.
    ///
    /// # Errors
    ///
    /// A [`StorageError`]. After [`Unavailable`](super::StorageErrorKind::Unavailable) the relay throws the reader
    /// away and makes a new one, which starts at the bottom. Other errors leave the reader where it was.
    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError>;

    /// Looks, a piece at a time, through everything below the floors for pending messages that should have been found
    /// and were not: the net for loss. Wraps at the floors. The relay drops what it holds already.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError>;
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Messages.
    pub rows: usize,
    /// Bytes of all payloads together, before they are loaded.
    pub bytes: usize,
    /// Bytes of one payload; a larger one is refused without being loaded.
    pub max_message_bytes: usize,
}

/// What a read found.
#[derive(Debug, Default)]
pub struct Batch {
    /// To be published; ascending `seq` within a shard.
    pub messages: Vec<Message>,
    /// Keys held by a failed message that waits for its next attempt.
    pub held: Vec<HeldHead>,
    /// Rows that must become dead letters.
    pub refused: Vec<Refused>,
    /// The leases of the assigned shards at the snapshot of this read.
    pub leases: Vec<Lease>,
    /// Whether a limit cut the read: there is more now.
    pub more: bool,
    /// When the earliest waiting row known is due, from now; `None` when none is known.
    pub next_due_in: Option<Duration>,
}

/// A failed message that waits for its next attempt and holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldHead {
    /// Where it is.
    pub position: Position,
    /// Its key.
    pub lane: LaneKey,
}

/// A row that cannot be delivered as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it is.
    pub position: Position,
    /// Its key, when it has one.
    pub lane: Option<LaneKey>,
    /// Why: [`DeadReason::TooLarge`](super::DeadReason::TooLarge) or
    /// [`DeadReason::Undecodable`](super::DeadReason::Undecodable).
    pub reason: super::DeadReason,
}
