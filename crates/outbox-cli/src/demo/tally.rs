use std::sync::atomic::{AtomicU64, Ordering};

/// Live counters: written by the writers and the consumer, read by the display.
#[derive(Debug, Default)]
pub(super) struct Tally {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    delivered: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Events whose transaction committed.
    pub(super) committed: u64,
    /// Events whose transaction was rolled back on purpose.
    pub(super) rolled_back: u64,
    /// Different events that the consumer has seen.
    pub(super) delivered: u64,
}

impl Counts {
    /// Events that the consumer does not have yet.
    pub(super) fn lag(self) -> u64 {
        self.committed.saturating_sub(self.delivered)
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

    pub(super) fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Relaxed),
            rolled_back: self.rolled_back.load(Ordering::Relaxed),
        }
    }
}
