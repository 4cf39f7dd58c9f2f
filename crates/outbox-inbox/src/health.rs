use std::sync::Arc;
use std::time::Duration;

use outbox_core::relay::HealthStatus;
use tokio::time::Instant;

/// How long the loop may stand still before that is unhealthy. It turns at least at every poll.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// How an inbox is, and why. A function of progress: an inbox whose loop stands still is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxHealth {
    /// The worst of the reasons.
    pub status: HealthStatus,
    /// Everything that is not as it should be; empty when healthy.
    pub reasons: Vec<InboxHealthReason>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboxHealthReason {
    /// The inbox has not started or has ended.
    NotRunning,
    /// The engine's loop has not turned for this long.
    Stalled(Duration),
    /// The database fails, with what it said.
    Database(Arc<str>),
    /// The broker cannot be reached, with what it said.
    Source(Arc<str>),
    /// Nothing is purged, with the reason.
    Purge(Arc<str>),
    /// So many dead letters wait for an operator.
    DeadLetters(u64),
    /// So many messages are missing by their numbers, and did not come late either; since the inbox was started
    /// ([`InboxConfig::sequence_keys`](crate::InboxConfig::sequence_keys)).
    Missing(u64),
}

impl InboxHealthReason {
    fn status(&self) -> HealthStatus {
        match self {
            Self::NotRunning | Self::Stalled(_) | Self::Database(_) | Self::Source(_) => HealthStatus::Unhealthy,
            Self::Purge(_) | Self::DeadLetters(_) | Self::Missing(_) => HealthStatus::Degraded,
        }
    }
}

impl std::fmt::Display for InboxHealthReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the inbox is not running"),
            Self::Stalled(time) => write!(f, "no progress for {} ms", time.as_millis()),
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Source(error) => write!(f, "source: {error}"),
            Self::Purge(reason) => write!(f, "nothing is purged: {reason}"),
            Self::DeadLetters(count) => write!(f, "{count} dead letters wait for an operator"),
            Self::Missing(count) => write!(f, "{count} messages are missing by their sequence numbers"),
        }
    }
}

/// What the engine says of itself; the handle makes an [`InboxHealth`] of it.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) last_turn: Option<Instant>,
    pub(crate) database: Option<Arc<str>>,
    pub(crate) source: Option<Arc<str>>,
    pub(crate) purge: Option<Arc<str>>,
    pub(crate) dead_letters: u64,
    pub(crate) missing: u64,
}

impl Vitals {
    pub(crate) fn health(&self, now: Instant) -> InboxHealth {
        let mut reasons = Vec::new();
        match self.last_turn.map(|turn| now.saturating_duration_since(turn)) {
            None => reasons.push(InboxHealthReason::NotRunning),
            Some(still) if still > STALL_LIMIT => reasons.push(InboxHealthReason::Stalled(still)),
            Some(_) => {}
        }
        reasons.extend(self.database.clone().map(InboxHealthReason::Database));
        reasons.extend(self.source.clone().map(InboxHealthReason::Source));
        reasons.extend(self.purge.clone().map(InboxHealthReason::Purge));
        reasons.extend(Some(self.dead_letters).filter(|count| *count > 0).map(InboxHealthReason::DeadLetters));
        reasons.extend(Some(self.missing).filter(|count| *count > 0).map(InboxHealthReason::Missing));
        let status = reasons.iter().map(InboxHealthReason::status).max().unwrap_or(HealthStatus::Healthy);
        InboxHealth { status, reasons }
    }
}
