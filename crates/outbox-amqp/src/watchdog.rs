use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outbox_core::ports::RouteName;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

/// The longest time that a route may go without a confirm, whatever happened before.
const LONGEST_STALL: Duration = Duration::from_secs(300);

/// Finds routes that have messages in flight and get no confirm: a queue without a majority, a broker that hangs.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stall_timeout: Duration,
    history: Arc<StallHistory>,
    routes: HashMap<RouteName, Load, FxBuildHasher>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    in_flight: usize,
    /// When something was confirmed last, or the first of those in flight was sent.
    since: Instant,
}

/// A route that stalled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) route: RouteName,
    pub(crate) quiet: Duration,
    pub(crate) in_flight: usize,
}

impl Watchdog {
    pub(crate) fn new(stall_timeout: Duration, history: Arc<StallHistory>) -> Self {
        Self { stall_timeout, history, routes: HashMap::default() }
    }

    pub(crate) fn sent(&mut self, route: &RouteName, now: Instant) {
        match self.routes.get_mut(route) {
            Some(load) => load.in_flight += 1,
            None => drop(self.routes.insert(route.clone(), Load { in_flight: 1, since: now })),
        }
    }

    pub(crate) fn settled(&mut self, route: &RouteName, now: Instant) {
        let Some(load) = self.routes.get_mut(route) else { return };
        load.since = now;
        load.in_flight -= 1;
        if load.in_flight == 0 {
            self.routes.remove(route);
        }
        self.history.forget(route);
    }

    /// Nothing can be confirmed: the time does not count.
    pub(crate) fn excuse(&mut self, now: Instant) {
        for load in self.routes.values_mut() {
            load.since = now;
        }
    }

    /// Returns a route that is over its time.
    pub(crate) fn check(&self, now: Instant) -> Option<Stall> {
        let over = |(route, load): &(&RouteName, &Load)| {
            let quiet = now.duration_since(load.since);
            quiet >= self.stall_timeout && quiet >= self.history.limit(route, self.stall_timeout)
        };
        let (route, load) = self.routes.iter().find(over)?;
        self.history.remember(route);
        Some(Stall { route: route.clone(), quiet: now.duration_since(load.since), in_flight: load.in_flight })
    }
}

/// How often routes stalled since their last confirm, over all sessions of a transport: one that stays sick ends sessions less and less often.
#[derive(Debug, Default)]
pub(crate) struct StallHistory {
    stalls: Mutex<HashMap<RouteName, u32>>,
}

impl StallHistory {
    fn limit(&self, route: &RouteName, base: Duration) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stalls.get(route).copied().unwrap_or(0);
        base.saturating_mul(1 << before.min(16)).min(LONGEST_STALL.max(base))
    }

    fn remember(&self, route: &RouteName) {
        *self.stalls.lock().unwrap_or_else(PoisonError::into_inner).entry(route.clone()).or_default() += 1;
    }

    fn forget(&self, route: &RouteName) {
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        if !stalls.is_empty() {
            stalls.remove(route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_route_without_a_confirm_stalls_after_the_time_and_is_named() {
        let (mut watchdog, start) = (Watchdog::new(STALL, Arc::default()), Instant::now());
        let route = RouteName::from("shop/order");
        for _ in 0..3 {
            watchdog.sent(&route, start);
        }
        watchdog.settled(&route, seconds(start, 20));
        assert_eq!(watchdog.check(seconds(start, 49)), None);
        let stall = watchdog.check(seconds(start, 50)).unwrap();
        assert_eq!((&*stall.route, stall.in_flight, stall.quiet), ("shop/order", 2, STALL));
    }

    #[test]
    fn a_route_with_nothing_in_flight_or_on_a_blocked_connection_never_stalls() {
        let (mut watchdog, start) = (Watchdog::new(STALL, Arc::default()), Instant::now());
        let route = RouteName::from("shop/order");
        watchdog.sent(&route, start);
        watchdog.excuse(seconds(start, 29));
        assert_eq!(watchdog.check(seconds(start, 58)), None);
        watchdog.settled(&route, seconds(start, 58));
        assert_eq!(watchdog.check(seconds(start, 1_000)), None);
    }

    #[test]
    fn a_route_that_stays_sick_gets_longer_until_it_confirms() {
        let (history, start) = (Arc::<StallHistory>::default(), Instant::now());
        let route = RouteName::from("shop/order");
        for limit in [30, 60, 120, 240, 300, 300] {
            let mut watchdog = Watchdog::new(STALL, history.clone());
            watchdog.sent(&route, start);
            assert_eq!(watchdog.check(seconds(start, limit - 1)), None, "{limit}");
            assert!(watchdog.check(seconds(start, limit)).is_some(), "{limit}");
        }
        let mut watchdog = Watchdog::new(STALL, history);
        watchdog.sent(&route, start);
        watchdog.sent(&route, start);
        watchdog.settled(&route, start);
        assert!(watchdog.check(seconds(start, 30)).is_some());
    }
}
