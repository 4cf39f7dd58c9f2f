use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::health::{Health, STALL_LIMIT_LEASES, Vitals};
use super::stats::{Counters, RelayStats};

/// Looks at a running relay and wakes it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    pub(super) nudge: Notify,
    pub(super) vitals: Mutex<Vitals>,
    pub(super) lease_duration: Duration,
    pub(super) lag_alert: Duration,
}

impl Shared {
    pub(super) fn vitals(&self, change: impl FnOnce(&mut Vitals)) {
        change(&mut self.vitals.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl RelayHandle {
    /// Says that a transaction with messages has committed, so that the relay reads at once instead of at its next
    /// poll. Call it *after* the commit. Never needed for correctness; many calls cost one read.
    pub fn nudge(&self) {
        self.shared.nudge.notify_one();
    }

    /// What the relay did so far.
    pub fn stats(&self) -> RelayStats {
        self.shared.counters.snapshot()
    }

    /// How the relay is.
    pub fn health(&self) -> Health {
        let vitals = self.shared.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        vitals.health(Instant::now(), self.shared.lease_duration * STALL_LIMIT_LEASES, self.shared.lag_alert)
    }
}
