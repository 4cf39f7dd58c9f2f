use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outbox_core::ports::RouteName;

use crate::window::SlotLoad;

/// The longest time that a slot may go without a report, whatever happened before.
const LONGEST_STALL: Duration = Duration::from_secs(300);

/// How long a slot with messages in flight may stay without a report while no broker at all can be reached.
pub(crate) const UNREACHABLE: Duration = Duration::from_secs(5);

/// Finds slots that have messages in flight and get no report.
///
/// librdkafka retries without end (`message.timeout.ms` is 0), so that this is what ends a session whose broker hangs.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stall_timeout: Duration,
    history: Arc<StallHistory>,
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    reported: u64,
    /// Since when there is no progress although something is in flight.
    since: Instant,
}

/// A slot that stalled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) topic: RouteName,
    pub(crate) partition: i32,
    pub(crate) quiet: Duration,
    pub(crate) in_flight: u32,
}

impl Watchdog {
    pub(crate) fn new(stall_timeout: Duration, history: Arc<StallHistory>) -> Self {
        Self { stall_timeout, history, seen: Vec::new() }
    }

    /// Looks at all slots of the session and returns the first that is over its time. `unreachable`: no broker is connected.
    pub(crate) fn check(&mut self, slots: &[SlotLoad], now: Instant, unreachable: bool) -> Option<Stall> {
        for (index, slot) in slots.iter().enumerate() {
            let fresh = Seen { reported: slot.reported, since: now };
            let Some(seen) = self.seen.get_mut(index) else {
                self.seen.push(fresh);
                continue;
            };
            if seen.reported != slot.reported {
                self.history.forget(&slot.topic, slot.partition);
            }
            if slot.in_flight == 0 || seen.reported != slot.reported {
                *seen = fresh;
                continue;
            }
            let quiet = now.duration_since(seen.since);
            let limit = if unreachable { UNREACHABLE.min(self.stall_timeout) } else { self.stall_timeout };
            if quiet < limit {
                continue;
            }
            if !unreachable {
                if quiet < self.history.limit(&slot.topic, slot.partition, self.stall_timeout) {
                    continue;
                }
                self.history.remember(&slot.topic, slot.partition);
            }
            let stall =
                Stall { topic: slot.topic.clone(), partition: slot.partition, quiet, in_flight: slot.in_flight };
            return Some(stall);
        }
        None
    }
}

/// How often partitions stalled since their last report, over all sessions of a transport: a partition that stays sick ends sessions less and
/// less often.
#[derive(Debug, Default)]
pub(crate) struct StallHistory {
    stalls: Mutex<HashMap<(RouteName, i32), u32>>,
}

impl StallHistory {
    fn limit(&self, topic: &RouteName, partition: i32, base: Duration) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stalls.get(&(topic.clone(), partition)).copied().unwrap_or(0);
        base.saturating_mul(1 << before.min(16)).min(LONGEST_STALL.max(base))
    }

    fn remember(&self, topic: &RouteName, partition: i32) {
        *self.stalls.lock().unwrap_or_else(PoisonError::into_inner).entry((topic.clone(), partition)).or_default() += 1;
    }

    fn forget(&self, topic: &RouteName, partition: i32) {
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        if !stalls.is_empty() {
            stalls.remove(&(topic.clone(), partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn slot(in_flight: u32, reported: u64) -> [SlotLoad; 1] {
        [SlotLoad { topic: "order".into(), partition: 3, in_flight, reported }]
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_slot_that_reports_or_is_empty_never_stalls() {
        let (mut watchdog, start) = (Watchdog::new(STALL, Arc::default()), Instant::now());
        for tick in 0..100 {
            assert_eq!(watchdog.check(&slot(5, tick), seconds(start, tick * 20), false), None);
        }
        for tick in 100..200 {
            assert_eq!(watchdog.check(&slot(0, 100), seconds(start, tick * 20), false), None);
        }
    }

    #[test]
    fn a_slot_without_a_report_stalls_after_the_time_and_is_named() {
        let (mut watchdog, start) = (Watchdog::new(STALL, Arc::default()), Instant::now());
        assert_eq!(watchdog.check(&slot(5, 0), start, false), None);
        assert_eq!(watchdog.check(&slot(5, 0), seconds(start, 29), false), None);
        let stall = watchdog.check(&slot(5, 0), seconds(start, 30), false).unwrap();
        assert_eq!((&*stall.topic, stall.partition, stall.in_flight), ("order", 3, 5));
    }

    #[test]
    fn a_partition_that_stays_sick_gets_longer_until_it_reports() {
        let history = Arc::<StallHistory>::default();
        let stalls_after = |limit: u64| {
            let (mut watchdog, start) = (Watchdog::new(STALL, history.clone()), Instant::now());
            watchdog.check(&slot(1, 0), start, false);
            assert_eq!(watchdog.check(&slot(1, 0), seconds(start, limit - 1), false), None, "{limit}");
            assert!(watchdog.check(&slot(1, 0), seconds(start, limit), false).is_some(), "{limit}");
        };
        for limit in [30, 60, 120, 240, 300, 300] {
            stalls_after(limit);
        }
        let (mut watchdog, start) = (Watchdog::new(STALL, history.clone()), Instant::now());
        watchdog.check(&slot(1, 0), start, false);
        watchdog.check(&slot(1, 1), start, false);
        stalls_after(30);
    }

    #[test]
    fn without_any_broker_a_slot_stalls_sooner() {
        let (mut watchdog, start) = (Watchdog::new(STALL, Arc::default()), Instant::now());
        watchdog.check(&slot(1, 0), start, true);
        assert_eq!(watchdog.check(&slot(1, 0), seconds(start, 4), true), None);
        assert!(watchdog.check(&slot(1, 0), seconds(start, 5), true).is_some());
    }
}
