use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use outbox::{HealthReason, HealthStatus, RelayHandle, RelayStats, Storage};
use tokio::time::{MissedTickBehavior, interval};

/// How often a draining relay looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// Reads without news after which a relay is done, when the database says so too.
const READS_WITHOUT_NEWS: u64 = 2;
/// How long what is pending must not have moved before it is left where it is.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Says how the relay does.
pub(super) struct Progress {
    relay: RelayHandle,
    storage: Arc<dyn Storage>,
    shards: u16,
    every: Duration,
}

impl Progress {
    pub(super) fn new(relay: RelayHandle, storage: Arc<dyn Storage>, shards: u16, every: Duration) -> Self {
        Self { relay, storage, shards, every: every.max(Duration::from_millis(100)) }
    }

    /// Logs a line now and then, for as long as it is polled.
    pub(super) async fn report(&self) -> Infallible {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut before = self.relay.stats().published;
        loop {
            ticks.tick().await;
            let stats = self.relay.stats();
            let rate = (stats.published - before) as f64 / self.every.as_secs_f64();
            before = stats.published;
            let health = self.relay.health();
            let reasons: Vec<String> = health.reasons.iter().map(ToString::to_string).collect();
            let line = format!(
                "published {} ({rate:.0}/s)  pending {}  oldest {} ms  in flight {}  retried {}  dead {}  shards {}/{}",
                stats.published,
                stats.pending,
                stats.oldest_pending_ms,
                stats.in_flight,
                stats.retried,
                stats.dead,
                stats.owned_shards,
                self.shards,
            );
            match health.status {
                HealthStatus::Healthy => tracing::info!("{line}  healthy"),
                HealthStatus::Degraded => tracing::warn!("{line}  degraded: {}", reasons.join("; ")),
                HealthStatus::Unhealthy => tracing::warn!("{line}  unhealthy: {}", reasons.join("; ")),
            }
        }
    }

    /// Waits until nothing is pending but messages that wait for their time, and nothing is in flight. Also ends when
    /// what is pending has not moved for [`STANDSTILL`] with nothing wrong: its keys are parked, or it is another relay's.
    pub(super) async fn until_drained(&self) {
        let mut ticks = interval(DRAIN_LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut still = Standstill::default();
        loop {
            ticks.tick().await;
            self.relay.nudge();
            let (reads, time) = still.look(&self.relay.stats());
            // The database looks for the oldest message near the bottom only, so the relay's own reads must agree.
            if reads < READS_WITHOUT_NEWS {
                continue;
            }
            // A database that cannot be reached is no reason to end: the relay waits for it too.
            let Ok(backlog) = self.storage.settler().backlog().await else { continue };
            if backlog.oldest_age.is_none() {
                tracing::info!("nothing is pending that can be delivered now");
                return;
            }
            if time >= STANDSTILL && self.is_well() {
                tracing::warn!("pending messages stay: their keys are parked, or another relay owns them");
                return;
            }
        }
    }

    fn is_well(&self) -> bool {
        self.relay.health().reasons.iter().all(|reason| matches!(reason, HealthReason::Lag(_)))
    }
}

/// Since when a relay has read nothing new and holds nothing.
struct Standstill {
    read: u64,
    reads: u64,
    since: Instant,
}

impl Default for Standstill {
    fn default() -> Self {
        Self { read: 0, reads: 0, since: Instant::now() }
    }
}

impl Standstill {
    /// How many reads brought nothing, and for how long.
    fn look(&mut self, stats: &RelayStats) -> (u64, Duration) {
        if stats.read != self.read || stats.in_flight > 0 || stats.owned_shards == 0 {
            *self = Self { read: stats.read, reads: stats.reads, since: Instant::now() };
        }
        (stats.reads - self.reads, self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_without_news_while_nothing_is_held_count() {
        let mut still = Standstill::default();
        let stats =
            |read, reads, in_flight| RelayStats { read, reads, in_flight, owned_shards: 1, ..RelayStats::default() };
        assert_eq!(still.look(&stats(5, 1, 5)).0, 0);
        assert_eq!(still.look(&stats(5, 2, 0)).0, 1);
        assert_eq!(still.look(&stats(5, 4, 0)).0, 3);
        assert_eq!(still.look(&stats(6, 5, 0)).0, 0);
        assert_eq!(still.look(&RelayStats { owned_shards: 0, ..stats(6, 9, 0) }).0, 0);
    }
}
