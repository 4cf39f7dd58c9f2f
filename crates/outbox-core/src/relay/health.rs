use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How a relay is, and why. A function of progress: a relay whose loop stands still is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The worst of the reasons.
    pub status: HealthStatus,
    /// Everything that is not as it should be; empty when healthy.
    pub reasons: Vec<HealthReason>,
}

/// In order of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// Something is wrong, but messages move, or will soon.
    Degraded,
    /// Messages do not move.
    Unhealthy,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthReason {
    /// The relay has not started or has ended.
    NotRunning,
    /// The engine's loop has not turned for this long.
    Stalled(Duration),
    /// The database fails, with what it said.
    Database(Arc<str>),
    /// The broker cannot be reached or takes no messages at all (a memory or disk alarm), with what it said.
    Broker(Arc<str>),
    /// A route takes no messages: its name and why.
    RoutePaused(Arc<str>, Arc<str>),
    /// The oldest pending message is this old.
    Lag(Duration),
}

impl HealthReason {
    fn status(&self) -> HealthStatus {
        match self {
            Self::NotRunning | Self::Stalled(_) | Self::Database(_) | Self::Broker(_) => HealthStatus::Unhealthy,
            Self::RoutePaused(..) | Self::Lag(_) => HealthStatus::Degraded,
        }
    }
}

impl std::fmt::Display for HealthReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the relay is not running"),
            Self::Stalled(time) => write!(f, "no progress for {} ms", time.as_millis()),
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Broker(error) => write!(f, "broker: {error}"),
            Self::RoutePaused(route, reason) => write!(f, "route {route} is paused: {reason}"),
            Self::Lag(age) => write!(f, "the oldest pending message is {} s old", age.as_secs()),
        }
    }
}

/// How long the loop may stand still before that is unhealthy. The loop turns at least at every heartbeat.
pub(super) const STALL_LIMIT_LEASES: u32 = 2;

/// What the engine says of itself; the handle makes a [`Health`] of it.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    pub(super) last_turn: Option<Instant>,
    pub(super) database: Option<Arc<str>>,
    pub(super) broker: Option<Arc<str>>,
    pub(super) paused_routes: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) oldest_age: Option<Duration>,
}

impl Vitals {
    pub(super) fn health(&self, now: Instant, stall_limit: Duration, lag_alert: Duration) -> Health {
        let mut reasons = Vec::new();
        match self.last_turn.map(|turn| now.saturating_duration_since(turn)) {
            None => reasons.push(HealthReason::NotRunning),
            Some(still) if still > stall_limit => reasons.push(HealthReason::Stalled(still)),
            Some(_) => {}
        }
        reasons.extend(self.database.clone().map(HealthReason::Database));
        reasons.extend(self.broker.clone().map(HealthReason::Broker));
        let paused = self.paused_routes.iter();
        reasons.extend(paused.map(|(route, reason)| HealthReason::RoutePaused(route.clone(), reason.clone())));
        reasons.extend(self.oldest_age.filter(|age| *age > lag_alert).map(HealthReason::Lag));
        let status = reasons.iter().map(HealthReason::status).max().unwrap_or(HealthStatus::Healthy);
        Health { status, reasons }
    }
}
