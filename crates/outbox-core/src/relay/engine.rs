use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use super::builder::{RelayError, RelayReport};
use super::config::RelayConfig;
use super::defect::has_defect;
use super::failing::Failing;
use super::handle::Shared;
use super::health::Vitals;
use super::intake::{Intake, IntakeEvent};
use super::known::Known;
use super::lanes::Lanes;
use super::ownership::{Ownership, OwnershipEvent, ParkedLoaded};
use super::publishing::{Publisher, SessionEvent};
use super::routes::Routes;
use super::settling::{Settled, Settling};
use super::stats::{self, RelayStats};
use crate::message::LaneKey;
use crate::ports::{
    Backlog, LaneOrdering, Notifier, Outcome, ReadLimits, RelayId, ShardId, Storage, StorageError, StorageErrorKind,
    Ticket, Transport,
};

/// Between two (bounded) counts of what is pending.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(5);
/// Between two times that keys in retry are derived from the database again, so that a head that somebody deleted by
/// hand cannot hold its key for ever.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest wait of the loop: the resolution of tokio's timer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// How long giving everything back may take at the end.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// All state of a running relay, and the loop that owns it.
pub(super) struct Engine {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) config: RelayConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) ordering: LaneOrdering,
    pub(super) ownership: Ownership,
    pub(super) intake: Intake,
    pub(super) known: Known,
    pub(super) lanes: Lanes,
    /// Parked keys of owned shards, with the load of the list that was the last to begin when each was added.
    pub(super) parked: FxHashMap<LaneKey, (ShardId, u64)>,
    pub(super) routes: Routes,
    pub(super) publisher: Publisher,
    pub(super) settling: Settling,
    pub(super) failing: Failing,
    /// Messages that must be sent alone.
    pub(super) quarantine: FxHashSet<(ShardId, i64)>,
    /// Messages that the sweep found and no read has returned yet.
    pub(super) suspects: FxHashSet<(ShardId, i64)>,
    /// Messages that were handed to a session that was lost: the broker may have them.
    pub(super) ambiguous: FxHashSet<(ShardId, i64)>,
    pub(super) open_bytes: usize,
    pub(super) rng: StdRng,
    stopping: Option<Instant>,
    backlog: Option<BoxFuture<'static, Result<Backlog, StorageError>>>,
    next_backlog: Instant,
    next_recheck: Instant,
    wakeups: Option<BoxFuture<'static, Wakeup>>,
    next_listen: Instant,
    reported: RelayStats,
}

/// What the storage's notifier said.
enum Wakeup {
    Woken(Box<dyn Notifier>),
    /// No notifier: the storage has none.
    Absent,
    Lost(StorageError),
}

enum Event {
    Shutdown,
    Ownership(OwnershipEvent),
    ParkedLoaded(ParkedLoaded),
    Session(SessionEvent),
    RouteOpened(super::routes::RouteId, Result<(), Outcome>),
    Settled(Settled),
    Failed(super::failing::Task, Result<crate::ports::Fenced, StorageError>),
    Intake(IntakeEvent),
    Outcomes,
    Nudged,
    Wakeup(Wakeup),
    Backlog(Result<Backlog, StorageError>),
    Timer,
}

impl Engine {
    /// Runs a relay to its end; see [`Relay::run`](super::Relay::run).
    pub(super) async fn start(
        storage: Arc<dyn Storage>,
        transport: Arc<dyn Transport>,
        config: RelayConfig,
        shared: Arc<Shared>,
        id: RelayId,
        shutdown: impl Future<Output = ()>,
    ) -> Result<RelayReport, RelayError> {
        let mut shutdown = pin!(shutdown);
        let mut rng = new_rng(&config);
        let mut attempt = 0;
        let shards = loop {
            let error = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(RelayReport { stats: shared.counters.snapshot(), drained: true }),
                checked = storage.check() => match checked {
                    Ok(profile) => break profile.shards,
                    Err(error) if error.is_transient() => error,
                    Err(error) => return Err(RelayError::Storage(error)),
                },
            };
            attempt += 1;
            tracing::warn!(error = %error, "the database cannot be used yet");
            shared.vitals(|vitals| {
                vitals.last_turn = Some(Instant::now());
                vitals.database = Some(describe(&error));
            });
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(RelayReport { stats: shared.counters.snapshot(), drained: true }),
                () = tokio::time::sleep(config.reconnect.delay(attempt, &mut rng)) => {}
            }
        };
        let now = Instant::now();
        let first_alone = !has_defect!(config, NoFirstAlone);
        let engine = Self {
            ordering: transport.lane_ordering(),
            ownership: Ownership::new(id, config.lease_duration, shards, now),
            intake: Intake::new(now, config.sweep_interval),
            known: Known::new(shards),
            lanes: Lanes::default(),
            parked: FxHashMap::default(),
            routes: Routes::default(),
            publisher: Publisher::new(config.max_in_flight.div_ceil(2), first_alone, now),
            settling: Settling::new(),
            failing: Failing::new(),
            quarantine: FxHashSet::default(),
            suspects: FxHashSet::default(),
            ambiguous: FxHashSet::default(),
            open_bytes: 0,
            rng,
            stopping: None,
            backlog: None,
            next_backlog: now,
            next_recheck: now + RECHECK_INTERVAL,
            wakeups: None,
            next_listen: now,
            reported: RelayStats::default(),
            storage,
            transport,
            config,
            shared,
        };
        Ok(engine.run(shutdown).await)
    }

    async fn run(mut self, mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>) -> RelayReport {
        let mut outcomes: Vec<(Ticket, Outcome)> = Vec::new();
        let shared = self.shared.clone();
        loop {
            if self.turn(&mut outcomes) {
                break;
            }
            let timer = tokio::time::sleep_until(self.next_action());
            let event = tokio::select! {
                biased;
                () = &mut shutdown, if self.stopping.is_none() => Event::Shutdown,
                event = self.ownership.next() => match event {
                    super::ownership::Next::Event(event) => Event::Ownership(event),
                    super::ownership::Next::Loaded(loaded) => Event::ParkedLoaded(loaded),
                },
                event = self.settling.event() => Event::Settled(event),
                (task, result) = self.failing.event() => Event::Failed(task, result),
                event = self.intake.event() => Event::Intake(event),
                event = self.publisher.next(&mut outcomes) => match event {
                    super::publishing::Next::Session(event) => Event::Session(event),
                    super::publishing::Next::RouteOpened(id, result) => Event::RouteOpened(id, result),
                    super::publishing::Next::Outcomes => Event::Outcomes,
                },
                event = optional(&mut self.wakeups) => Event::Wakeup(event),
                event = optional(&mut self.backlog) => Event::Backlog(event),
                () = shared.nudge.notified() => Event::Nudged,
                () = timer => Event::Timer,
            };
            self.handle(event, &mut outcomes);
        }
        self.finish().await
    }

    /// Starts everything that can be started. `true`: the relay has drained, or its time to drain is over.
    fn turn(&mut self, outcomes: &mut Vec<(Ticket, Outcome)>) -> bool {
        let now = Instant::now();
        self.expire_leases(now);
        if let Some(deadline) = self.stopping {
            let drained = self.known.len() == 0 && self.settling.is_idle() && self.failing.is_idle();
            if now >= deadline || (drained && self.publisher.close()) {
                return true;
            }
        } else {
            self.publisher.connect(&self.transport, now);
            if self.publisher.is_up() {
                self.intake.open_when_due(&self.storage, now);
            }
            self.listen(now);
        }
        let accepting = self.accepting(now);
        for shard in self.ownership.start(&self.storage, accepting, |shard| self.known.of_shard(shard) == 0) {
            self.leave_shard(shard);
        }
        self.intake.assign(self.ownership.active());
        self.start_read(now);
        self.publisher.open_routes(&mut self.routes, now);
        // a failure that was reported meanwhile must stop its followers before they are handed over
        if self.publisher.outcomes_now(outcomes) {
            self.on_outcomes(outcomes);
        }
        self.publisher.send(&mut self.routes, now);
        self.spare_the_window(now);
        self.settling.start(&self.storage, now);
        self.failing.start(&self.storage, self.ownership.id.owner, now);
        self.recheck(now);
        self.observe(now);
        false
    }

    /// Whether this relay should own shards: it reaches the broker, or lost it less than a lease ago.
    pub(super) fn accepting(&self, now: Instant) -> bool {
        self.stopping.is_none()
            && self.publisher.down_since.is_none_or(|since| now.duration_since(since) < self.config.lease_duration)
    }

    fn start_read(&mut self, now: Instant) {
        if self.stopping.is_some() || !self.publisher.is_up() {
            return;
        }
        let room = self.config.max_in_flight.saturating_sub(self.known.len());
        let bytes = self.config.max_in_flight_bytes.saturating_sub(self.open_bytes);
        let rows = self.config.batch_size.min(self.config.max_in_flight);
        let enough_rows = room >= rows.div_ceil(4);
        let enough_bytes = bytes >= self.config.batch_bytes.div_ceil(4);
        if enough_rows && enough_bytes {
            let limits = ReadLimits {
                rows: rows.min(room),
                bytes: self.config.batch_bytes.min(bytes),
                max_message_bytes: self.config.max_message_bytes,
            };
            self.intake.read(now, limits, self.config.sweep_interval);
        }
    }

    fn next_action(&self) -> Instant {
        [
            Some(self.ownership.next_action()),
            self.settling.next_action(),
            self.failing.next_action(),
            self.publisher.next_action().filter(|_| self.stopping.is_none()),
            self.intake.next_action().filter(|_| self.stopping.is_none() && self.may_read()),
            self.routes.next_try().filter(|_| self.publisher.is_up()),
            self.publisher.slots.next_check(),
            self.stopping,
            Some(self.next_backlog).filter(|_| self.backlog.is_none()),
            Some(self.next_listen).filter(|_| self.wakeups.is_none()),
            Some(self.next_recheck),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_else(|| Instant::now() + self.config.polling_interval)
        // whatever is due has been started by now; if it was not, an event that it waits for will come
        .max(Instant::now() + SHORTEST_WAIT)
    }

    /// Whether a read could start now: otherwise its time is no reason to wake.
    fn may_read(&self) -> bool {
        let room = self.config.max_in_flight.saturating_sub(self.known.len());
        let rows = self.config.batch_size.min(self.config.max_in_flight);
        let bytes = self.config.max_in_flight_bytes.saturating_sub(self.open_bytes);
        self.publisher.is_up() && room >= rows.div_ceil(4) && bytes >= self.config.batch_bytes.div_ceil(4)
    }

    fn handle(&mut self, event: Event, outcomes: &mut Vec<(Ticket, Outcome)>) {
        match event {
            Event::Shutdown => {
                tracing::info!(in_flight = self.known.len(), "draining");
                self.stopping = Some(Instant::now() + self.config.shutdown_timeout);
                self.ownership.drain_all();
                if !self.publisher.is_up() {
                    self.publisher.lose(Instant::now());
                }
            }
            Event::Ownership(event) => self.on_ownership(event),
            Event::ParkedLoaded(loaded) => self.on_parked_loaded(loaded),
            Event::Session(event) => self.on_session(event),
            Event::RouteOpened(id, result) => self.on_route_opened(id, result),
            Event::Settled(settled) => self.on_settled(settled),
            Event::Failed(task, result) => self.on_failure_written(task, result),
            Event::Intake(event) => self.on_intake(event),
            Event::Outcomes => self.on_outcomes(outcomes),
            Event::Nudged => self.intake.wake(),
            Event::Wakeup(wakeup) => self.on_wakeup(wakeup),
            Event::Backlog(result) => self.on_backlog(result),
            Event::Timer => {}
        }
    }

    fn on_settled(&mut self, settled: Settled) {
        match settled.result {
            Ok(()) => {
                self.settling.succeeded();
                self.database_is_well();
                stats::add(&self.shared.counters.settled, settled.positions.len());
                stats::time("outbox_settle_seconds", settled.took);
                let reading = self.intake.reading && !has_defect!(self.config, ForgetSettledAtOnce);
                for position in settled.positions {
                    self.known.retire(position.shard, position.seq, reading);
                    if !self.ambiguous.is_empty() {
                        self.ambiguous.remove(&(position.shard, position.seq));
                    }
                }
            }
            Err(error) => {
                self.database_failed("removing delivered messages failed", &error);
                let (config, rng) = (&self.config, &mut self.rng);
                self.settling.failed(settled.positions, |failures| config.reconnect.delay(failures, rng));
            }
        }
    }

    fn on_backlog(&mut self, result: Result<Backlog, StorageError>) {
        self.next_backlog = Instant::now() + BACKLOG_INTERVAL;
        match result {
            Ok(backlog) => {
                let counters = &self.shared.counters;
                let pending = usize::try_from(backlog.pending).unwrap_or(usize::MAX);
                stats::set(&counters.pending, pending);
                let age = backlog.oldest_age.unwrap_or_default().as_millis();
                stats::set(&counters.oldest_pending_ms, usize::try_from(age).unwrap_or(usize::MAX));
                self.shared.vitals(|vitals| vitals.oldest_age = backlog.oldest_age);
            }
            Err(error) => self.database_failed("counting the backlog failed", &error),
        }
    }

    /// Keeps the storage's wake-ups, when it has any, coming.
    fn listen(&mut self, now: Instant) {
        if self.wakeups.is_none() && now >= self.next_listen {
            let storage = self.storage.clone();
            self.wakeups = Some(Box::pin(async move {
                match storage.notifier().await {
                    Ok(Some(notifier)) => next_wakeup(notifier).await,
                    Ok(None) => Wakeup::Absent,
                    Err(error) => Wakeup::Lost(error),
                }
            }));
        }
    }

    fn on_wakeup(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Woken(notifier) => {
                self.intake.wake();
                self.wakeups = Some(Box::pin(next_wakeup(notifier)));
            }
            Wakeup::Absent => self.wakeups = Some(Box::pin(std::future::pending())),
            Wakeup::Lost(error) => {
                tracing::warn!(error = %error, "wake-ups by the database are lost, polling meanwhile");
                self.intake.wake();
                self.next_listen = Instant::now() + self.config.reconnect.delay(3, &mut self.rng);
            }
        }
    }

    fn recheck(&mut self, now: Instant) {
        if now >= self.next_recheck {
            self.next_recheck = now + RECHECK_INTERVAL;
            self.derive_retries_again(|_| true);
        }
    }

    pub(super) fn database_is_well(&self) {
        self.shared.vitals(|vitals| vitals.database = None);
    }

    pub(super) fn database_failed(&self, what: &'static str, error: &StorageError) {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = %error, source, "{what}");
        if error.kind() != StorageErrorKind::Conflict {
            self.shared.vitals(|vitals| vitals.database = Some(describe(error)));
        }
    }

    /// Publishes gauges, counters and vital signs.
    fn observe(&mut self, now: Instant) {
        let counters = &self.shared.counters;
        stats::set(&counters.in_flight, self.known.len());
        stats::set(&counters.in_flight_bytes, self.open_bytes);
        stats::set(&counters.owned_shards, self.ownership.count());
        stats::set(&counters.paused_routes, self.routes.paused());
        counters.publish(&mut self.reported);
        self.shared.vitals(|vitals: &mut Vitals| vitals.last_turn = Some(now));
        if self.backlog.is_none() && now >= self.next_backlog && self.stopping.is_none() {
            let storage = self.storage.clone();
            self.backlog = Some(Box::pin(async move { storage.settler().backlog().await }));
        }
    }

    /// Gives everything back and reports.
    async fn finish(mut self) -> RelayReport {
        let drained = self.known.len() == 0;
        if !drained {
            tracing::warn!(in_flight = self.known.len(), "the time to drain is over, these may be delivered again");
        }
        self.publisher.lose(Instant::now());
        let resign = self.storage.leases().resign(&self.ownership.id);
        match tokio::time::timeout(RESIGN_TIMEOUT, resign).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the shards could not be given back, they expire"),
            Err(_) => tracing::warn!("the database did not answer, the shards expire"),
        }
        self.shared.counters.publish(&mut self.reported);
        self.shared.vitals(|vitals| *vitals = Vitals::default());
        RelayReport { stats: self.shared.counters.snapshot(), drained }
    }
}

async fn next_wakeup(mut notifier: Box<dyn Notifier>) -> Wakeup {
    match notifier.notified().await {
        Ok(()) => Wakeup::Woken(notifier),
        Err(error) => Wakeup::Lost(error),
    }
}

/// Waits for an optional call, and removes it when it has returned.
async fn optional<T>(call: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(running) = call else { return std::future::pending().await };
    let value = running.await;
    *call = None;
    value
}

pub(super) fn describe(error: &StorageError) -> Arc<str> {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}").into(),
        None => error.to_string().into(),
    }
}

fn new_rng(config: &RelayConfig) -> StdRng {
    #[cfg(feature = "simulation")]
    if let Some(seed) = config.jitter_seed {
        return StdRng::seed_from_u64(seed);
    }
    let _ = config;
    StdRng::from_rng(&mut rand::rng())
}
