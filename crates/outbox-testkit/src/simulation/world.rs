use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use outbox_core::relay::RelayHandle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::broker::Broker;
use super::database::{Database, Micros};
use super::dice::Dice;
use super::ledger::Ledger;
use super::scenario::Scenario;
use super::{Violation, ViolationKind};

/// Everything that exists in a run, behind one lock that nobody holds across an await.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Scenario,
    started: Instant,
    state: Mutex<State>,
    /// Rings when a promise was broken.
    pub(super) alarm: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) database: Database,
    pub(super) broker: Broker,
    pub(super) ledger: Ledger,
    pub(super) relays: BTreeMap<usize, Control>,
    pub(super) relays_started: usize,
    /// Calls of the storage that take so long that they may outlast the faults.
    pub(super) slow_calls: usize,
    /// Crashed relays that start again.
    pub(super) coming_back: usize,
    pub(super) database_down_until: Option<Instant>,
    /// The faults are over.
    pub(super) calm: bool,
    /// The run ends: nothing is restarted.
    pub(super) ending: bool,
    clock_step: Micros,
    started: Instant,
    trace: Option<Vec<String>>,
}

/// What the world does to a relay's process.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) paused_until: Option<Instant>,
    pub(super) crashed: bool,
    /// Crashes when it was polled so many times more.
    pub(super) polls_left: Option<u64>,
    pub(super) handle: Option<RelayHandle>,
    pub(super) leave: Option<oneshot::Sender<()>>,
    pub(super) waker: Option<Waker>,
}

impl World {
    pub(super) fn new(scenario: Scenario, trace: bool) -> Arc<Self> {
        let started = Instant::now();
        let window = scenario.relay.max_in_flight as u64;
        let state = State {
            dice: Dice::new(scenario.seed, 2),
            database: Database::new(scenario.shards),
            broker: Broker::default(),
            ledger: Ledger::new(window, scenario.relay.lease_duration * 3),
            relays: BTreeMap::new(),
            relays_started: 0,
            slow_calls: 0,
            coming_back: 0,
            database_down_until: None,
            calm: scenario.is_quiet(),
            ending: false,
            clock_step: 0,
            started,
            trace: trace.then(Vec::new),
        };
        Arc::new(Self { scenario, started, state: Mutex::new(state), alarm: Notify::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world in one step, and rings when that broke a promise.
    pub(super) fn step<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let value = change(&mut state);
        if state.ledger.broken.is_some() {
            self.alarm.notify_one();
        }
        value
    }

    pub(super) fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.lock().dice)
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn at_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The violation found so far.
    pub(super) fn violation(&self) -> Option<Violation> {
        let mut state = self.lock();
        let (kind, what) = state.ledger.broken.take()?;
        let trace = state.trace.take().unwrap_or_default();
        Some(Violation { seed: self.scenario.seed, at_ms: self.at_ms(), kind, what, trace })
    }

    pub(super) fn violated(&self, kind: ViolationKind, what: String) {
        self.step(|state| state.ledger.violated(kind, what));
    }

    /// Waits in virtual time until a condition holds; `false` after `limit`.
    pub(super) async fn until(&self, limit: Duration, mut holds: impl FnMut(&State) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while !holds(&self.lock()) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

impl State {
    /// The database's clock, microseconds.
    pub(super) fn clock(&self) -> Micros {
        const BEGINNING: Micros = 1_760_000_000_000_000;
        BEGINNING + Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(0) + self.clock_step
    }

    pub(super) fn step_clock(&mut self, by: Micros) {
        self.clock_step += by;
    }

    pub(super) fn is_database_down(&self) -> bool {
        self.database_down_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn crash(&mut self, relay: usize) {
        if let Some(control) = self.relays.get_mut(&relay) {
            control.crashed = true;
            if let Some(waker) = control.waker.take() {
                waker.wake();
            }
            self.note(|| format!("relay {relay} crashes"));
        }
    }

    /// Relays that run, or come back after a crash, and were not asked to leave.
    pub(super) fn staying(&self) -> usize {
        self.relays.values().filter(|control| control.leave.is_some()).count() + self.coming_back
    }

    /// Adds a line to the trace, when one is kept.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.started.elapsed().as_millis();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:>7} ms  {}", line()));
        }
    }
}

/// Runs on the side of a server: goes on when the caller that waits for it is gone.
pub(super) fn on_server<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> oneshot::Receiver<T> {
    let (reply, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let _ = reply.send(work.await);
    });
    receiver
}
