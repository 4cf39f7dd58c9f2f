/// A broken promise, found by a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, at {at_ms} ms: {kind:?}: {what}")]
pub struct Violation {
    /// The seed that replays it.
    pub seed: u64,
    /// Virtual milliseconds since the run began.
    pub at_ms: u64,
    /// Which promise.
    pub kind: ViolationKind,
    /// What happened.
    pub what: String,
    /// What led to it, one event a line; empty unless [`Options::trace`](super::Options::trace).
    pub trace: Vec<String>,
}

/// The promises that a run checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A committed message was removed, or is gone, and was never published.
    Lost,
    /// A message of a transaction that did not commit was published.
    Ghost,
    /// A message was first published before an earlier one of its key.
    Order,
    /// A duplicate without a fault, or more of them than a window for each fault.
    Duplicate,
    /// A message lost an attempt, or became a dead letter, without having been refused that often.
    Burned,
    /// A message was handed over for a shard whose lease had run out by the relay's own count.
    PastLease,
    /// A fenced write took effect for a relay that did not own the shard.
    Unfenced,
    /// A message was handed over though the relay had read that its key is parked.
    Parked,
    /// The backlog did not drain after the faults had ended.
    Stuck,
    /// The relay ended, panicked or span without making time pass.
    Broken,
}
