use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use outbox_core::inbox::{Consumer, IncomingHeaders};
use outbox_inbox::InboxHandle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::scenario::Scenario;
use super::{Summary, Violation, ViolationKind};
use crate::memory::{MemoryInbox, MemorySource};
use crate::simulation::dice::Dice;

/// The stream of every message.
pub(super) const STREAM: &str = "order";

/// Everything that exists in a run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) consumer: Consumer,
    pub(super) database: MemoryInbox,
    pub(super) source: MemorySource,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) dice: Dice,
    /// Messages, by id.
    pub(super) published: BTreeSet<String>,
    /// How often a message's handler fails yet.
    pub(super) failing: BTreeMap<String, u64>,
    pub(super) dead: BTreeSet<String>,
    /// Dead letters that the operator discarded.
    pub(super) discarded: BTreeSet<String>,
    /// Dead letters that the operator let others pass.
    pub(super) passed: BTreeSet<String>,
    pub(super) handles: Vec<InboxHandle>,
    pub(super) processes: BTreeMap<usize, Control>,
    pub(super) coming_back: usize,
    pub(super) calm: bool,
    pub(super) ending: bool,
    pub(super) summary: Summary,
    broken: Option<(ViolationKind, String)>,
}

/// What the world does to a process.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) paused_until: Option<Instant>,
    pub(super) crashed: bool,
    /// Crashes when it was polled so many times more.
    pub(super) polls_left: Option<u64>,
    pub(super) leave: Option<oneshot::Sender<()>>,
    pub(super) waker: Option<Waker>,
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Arc<Self> {
        let state = State {
            dice: Dice::new(scenario.seed, 12),
            published: BTreeSet::new(),
            failing: BTreeMap::new(),
            dead: BTreeSet::new(),
            discarded: BTreeSet::new(),
            passed: BTreeSet::new(),
            handles: Vec::new(),
            processes: BTreeMap::new(),
            coming_back: 0,
            calm: scenario.storage_fault_every == 0 && scenario.faults == 0,
            ending: false,
            summary: Summary::default(),
            broken: None,
        };
        let database = MemoryInbox::new();
        let source = MemorySource::new(scenario.acknowledging, scenario.partitions, &[STREAM]);
        let consumer = Consumer::new("billing").expect("a valid name");
        Arc::new(Self { scenario, consumer, database, source, state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.lock().dice)
    }

    /// Publishes every message one to five times: first deliveries in order per key, repeated ones anywhere within a window after.
    pub(super) async fn publish_everything(&self) {
        const WINDOW: usize = 8;
        let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
        let mut repeats: Vec<(String, String)> = Vec::new();
        for _ in 0..self.scenario.messages {
            let (key, times, think) = {
                let mut state = self.lock();
                let key = state.dice.between(0, self.scenario.keys);
                let times = if state.dice.once_in(3) { state.dice.between(1, 5) } else { 0 };
                (key, times, state.dice.millis(0, self.scenario.think_ms))
            };
            let number = numbers.entry(key).or_default();
            *number += 1;
            let (key, id) = (format!("k{key}"), format!("k{key}#{number}"));
            {
                let mut state = self.lock();
                state.published.insert(id.clone());
                if state.dice.once_in(self.scenario.failing_every) {
                    let fails = state.dice.pick(&[1, 2, 3, 1_000_000]);
                    state.failing.insert(id.clone(), fails);
                }
            }
            self.deliver(&key, &id);
            repeats.extend((0..times).map(|_| (key.clone(), id.clone())));
            while repeats.len() > WINDOW || (!repeats.is_empty() && self.roll(|dice| dice.once_in(3))) {
                let index = self.roll(|dice| dice.below(repeats.len()));
                let (key, id) = repeats.swap_remove(index);
                self.lock().summary.repeated += 1;
                self.deliver(&key, &id);
            }
            if !think.is_zero() {
                sleep(think).await;
            }
        }
    }

    fn deliver(&self, key: &str, id: &str) {
        let mut headers = IncomingHeaders::default();
        headers.push("ce_id", id.to_owned());
        headers.push("ce_source", "/shop");
        headers.push("ce_type", "order.placed");
        if let Some((_, number)) = id.split_once('#') {
            headers.push("ce_sequence", number.to_owned());
            headers.push("ce_sequencetype", "Integer");
        }
        self.source.publish(STREAM, Some(key), headers, b"");
    }

    /// The faults are over.
    pub(super) fn heal(&self) {
        self.database.set_unavailable(false);
        self.source.set_unavailable(false);
        let mut state = self.lock();
        state.calm = true;
        for control in state.processes.values_mut() {
            control.polls_left = None;
        }
    }

    /// Nothing is on its way any more.
    pub(super) fn is_settled(&self) -> bool {
        self.source.unacknowledged(&self.consumer) == 0 && self.database.held_messages() == 0
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_settled()
    }

    pub(super) fn waiting(&self) -> String {
        let (open, held) = (self.source.unacknowledged(&self.consumer), self.database.held_messages());
        format!("{open} messages are not acknowledged and {held} are held")
    }

    /// Waits in virtual time until a condition holds; `false` after `limit`.
    pub(super) async fn until(&self, limit: Duration, holds: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            self.look_at_dead_letters().await;
            if holds() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn violated(&self, kind: ViolationKind, what: String) {
        self.lock().broken.get_or_insert((kind, what));
    }

    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken.is_some()
    }

    pub(super) fn crash(&self, number: usize) {
        if let Some(control) = self.lock().processes.get_mut(&number) {
            control.crashed = true;
            if let Some(waker) = control.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn conclude(&self) -> Result<Summary, Violation> {
        let mut state = self.lock();
        if let Some((kind, what)) = state.broken.take() {
            return Err(Violation { seed: self.scenario.seed, kind, what });
        }
        let mut summary = state.summary;
        summary.messages = state.published.len() as u64;
        summary.dead = state.dead.len() as u64;
        summary.applied = self.database.effects().len() as u64;
        Ok(summary)
    }
}
