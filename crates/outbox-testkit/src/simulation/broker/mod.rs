//! A modelled broker: topics with partitions, and for each session an idempotent producer with its in-flight messages.
//! What a producer handed over travels and is answered whatever becomes of the relay.

mod channel;
mod delivery;
mod session;
mod transport;

pub(super) use channel::block;
pub(super) use delivery::abandon;
pub(super) use transport::SimTransport;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use outbox_core::message::LaneKey;
use outbox_core::ports::{OutcomeSink, Slot, Ticket};
use tokio::time::Instant;
use uuid::Uuid;

#[derive(Debug, Default)]
pub(super) struct Broker {
    sessions: BTreeMap<u64, Producer>,
    sessions_made: u64,
    pub(super) down_until: Option<Instant>,
    /// Topics that do not exist at the moment.
    pub(super) missing_until: BTreeMap<String, Instant>,
    /// Accepts nothing and confirms nothing, and loses nothing.
    pub(super) blocked_until: Option<Instant>,
    /// Messages that each relay's transport sends through a channel of their own.
    suspects: BTreeMap<usize, BTreeSet<Uuid>>,
    /// Partitions without a leader at the moment: they answer nothing.
    pub(super) stuck_until: BTreeMap<Slot, Instant>,
}

/// A session's producer. Gone from [`Broker::sessions`] when the session is lost, closed or dropped.
#[derive(Debug)]
struct Producer {
    relay: usize,
    sink: OutcomeSink,
    slots: BTreeMap<Slot, Line>,
    /// Messages that were reported as published at once; only with a defect.
    lies: BTreeSet<Ticket>,
}

/// What is under way to one partition.
#[derive(Debug)]
struct Line {
    topic: String,
    /// Nothing was taken from this producer yet: the broker accepts whatever comes first.
    fresh: bool,
    queue: VecDeque<Flight>,
    /// Evaluated, and the report is under way.
    answered: Vec<Flight>,
    /// Lanes with a failure that was not reported yet.
    failed: BTreeSet<LaneKey>,
    moving: bool,
}

#[derive(Debug, Clone)]
struct Flight {
    ticket: Ticket,
    id: Uuid,
    lane: Option<LaneKey>,
    /// Must not be published: an earlier message of its lane failed when this one was under way.
    doomed: bool,
}

impl Broker {
    pub(super) fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| Instant::now() < until)
    }

    /// How long it takes nothing.
    fn blocked_for(&self) -> Option<Duration> {
        let time = self.blocked_until?.saturating_duration_since(Instant::now());
        (!time.is_zero()).then_some(time)
    }

    pub(super) fn is_missing(&self, topic: &str) -> bool {
        self.missing_until.get(topic).is_some_and(|&until| Instant::now() < until)
    }

    /// The sessions that live.
    pub(super) fn sessions(&self) -> Vec<u64> {
        self.sessions.keys().copied().collect()
    }
}

impl Line {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            fresh: true,
            queue: VecDeque::new(),
            answered: Vec::new(),
            failed: BTreeSet::new(),
            moving: false,
        }
    }

    /// A message failed: later ones of its lane that are under way must not overtake it.
    fn fail(&mut self, lane: Option<LaneKey>) {
        let Some(lane) = lane else { return };
        self.failed.insert(lane);
        for flight in self.queue.iter_mut().filter(|flight| flight.lane == Some(lane)) {
            flight.doomed = true;
        }
    }
}
