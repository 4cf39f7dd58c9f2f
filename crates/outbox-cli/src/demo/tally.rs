use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Live counters: written by the writers, the consumers and the chaos, read by the display.
#[derive(Debug, Default)]
pub(super) struct Tally {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    delivered: AtomicU64,
    applied: AtomicU64,
    killed_relays: AtomicU64,
    killed_consumers: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Events whose transaction committed.
    pub(super) committed: u64,
    /// Events whose transaction was rolled back on purpose.
    pub(super) rolled_back: u64,
    /// Different events that the independent consumer has seen.
    pub(super) delivered: u64,
    /// Events in the balances.
    pub(super) applied: u64,
}

/// How often who was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kills {
    pub(super) relay: u64,
    pub(super) consumer: u64,
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "killed: relay {}, consumer {}", self.relay, self.consumer)
    }
}

impl Counts {
    /// Committed events that are not delivered or not applied yet.
    pub(super) fn lag(self) -> u64 {
        self.committed.saturating_sub(self.delivered.min(self.applied))
    }
}

impl Tally {
    pub(super) fn committed(&self, events: u64) {
        self.committed.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn rolled_back(&self, events: u64) {
        self.rolled_back.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// All events that the balances hold.
    pub(super) fn set_applied(&self, events: u64) {
        self.applied.store(events, Ordering::Relaxed);
    }

    pub(super) fn killed_relay(&self) {
        self.killed_relays.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn killed_consumer(&self) {
        self.killed_consumers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            applied: self.applied.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Relaxed),
            rolled_back: self.rolled_back.load(Ordering::Relaxed),
        }
    }

    pub(super) fn kills(&self) -> Kills {
        Kills {
            relay: self.killed_relays.load(Ordering::Relaxed),
            consumer: self.killed_consumers.load(Ordering::Relaxed),
        }
    }
}
