use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Events are released in bursts this far apart, so that the relays see full batches and idle moments.
const BURST: Duration = Duration::from_millis(500);

/// How far the writers may go, and how far they are. Events are released bit by bit so that writers are at work during every fault.
#[derive(Debug)]
pub(crate) struct Pace {
    committed: AtomicU64,
    total: u64,
    release: Mutex<Release>,
}

#[derive(Debug)]
struct Release {
    since: Instant,
    base: u64,
    cap: u64,
    /// Events per second.
    rate: u64,
}

impl Pace {
    /// Nothing is released yet; the writers end once `total` events are committed.
    pub(crate) fn new(total: u64) -> Self {
        let release = Release { since: Instant::now(), base: 0, cap: 0, rate: 0 };
        Self { committed: AtomicU64::new(0), total, release: Mutex::new(release) }
    }

    /// Releases events up to `cap` from now on, over `time`.
    pub(crate) fn release(&self, cap: u64, time: Duration) {
        let base = self.allowed().min(self.committed());
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = cap.saturating_sub(base) * 1000 / millis;
        *self.release.lock().unwrap_or_else(PoisonError::into_inner) =
            Release { since: Instant::now(), base, cap, rate };
    }

    /// Whether a writer may begin a transaction now.
    pub(crate) fn may_write(&self) -> bool {
        self.committed() < self.allowed()
    }

    /// A transaction with this many events has committed.
    pub(crate) fn add(&self, events: u64) {
        self.committed.fetch_add(events, Ordering::Relaxed);
    }

    /// Events whose commit was confirmed to a writer.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Whether the writers are done.
    pub(crate) fn is_done(&self) -> bool {
        self.committed() >= self.total
    }

    fn allowed(&self) -> u64 {
        let release = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        let bursts = u64::try_from(release.since.elapsed().as_millis() / BURST.as_millis()).unwrap_or(u64::MAX);
        let each = (release.rate * 500 / 1000).max(1);
        release.cap.min(release.base.saturating_add(bursts.saturating_add(1).saturating_mul(each)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_before_it_is_released_and_nothing_past_the_cap() {
        let pace = Pace::new(100);
        assert!(!pace.may_write());
        pace.release(10, Duration::from_millis(1));
        assert!(pace.may_write());
        pace.add(10);
        assert!(!pace.may_write() && !pace.is_done());
        pace.add(90);
        assert!(pace.is_done());
    }
}
