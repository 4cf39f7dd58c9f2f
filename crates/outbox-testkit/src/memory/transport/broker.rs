use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::message::{LaneKey, Message};
use outbox_core::ports::{Outcome, OutcomeSink, Outgoing, Reason, RouteName, Slot, TransportError};

/// Partitions of every topic.
const PARTITIONS: u32 = 4;

/// A message that the broker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedMessage {
    /// The topic.
    pub topic: String,
    /// The partition within the topic.
    pub partition: u32,
    /// The message.
    pub message: Arc<Message>,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) log: Vec<PublishedMessage>,
    pub(super) topics: BTreeSet<String>,
    pub(super) declared_topics_only: bool,
    pub(super) paused: BTreeMap<String, Reason>,
    pub(super) failures: VecDeque<Outcome>,
    pub(super) delay: Duration,
    pub(super) is_stopped: bool,
    /// The number of the first slot of each route that was opened.
    first_slots: BTreeMap<RouteName, u32>,
    sessions: BTreeMap<u64, Live>,
    last_session: u64,
}

/// What the broker knows of an open session.
#[derive(Debug)]
struct Live {
    sink: OutcomeSink,
    /// Calls of `send` so far.
    calls: u64,
    /// Lanes that failed, with the last call of `send` in which the relay may not have known; `None`: it may not know yet.
    failed: HashMap<LaneKey, Option<u64>>,
}

impl Broker {
    pub(super) fn admit(&mut self, sink: OutcomeSink) -> Result<u64, TransportError> {
        if self.is_stopped {
            return Err(TransportError::new("the in-memory broker is stopped: call start()"));
        }
        self.last_session += 1;
        self.sessions.insert(self.last_session, Live { sink, calls: 0, failed: HashMap::new() });
        Ok(self.last_session)
    }

    pub(super) fn dismiss(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    pub(super) fn lose_sessions(&mut self, reason: &Reason) {
        for live in std::mem::take(&mut self.sessions).into_values() {
            live.sink.session_lost(reason.clone());
        }
    }

    /// Why a topic takes no messages now.
    fn pause_of(&self, topic: &str) -> Option<Reason> {
        let unknown = self.declared_topics_only && !self.topics.contains(topic);
        let unknown = unknown.then(|| Reason::new(format!("topic {topic} does not exist: call declare_topic()")));
        self.paused.get(topic).cloned().or(unknown)
    }

    pub(super) fn open_route(&mut self, session: u64, route: &RouteName) -> Result<(), Outcome> {
        if !self.sessions.contains_key(&session) {
            return Err(Outcome::SessionLost(Reason::new("the session is gone")));
        }
        if let Some(reason) = self.pause_of(route) {
            return Err(Outcome::RoutePaused(reason));
        }
        let next = u32::try_from(self.first_slots.len()).unwrap_or(u32::MAX).saturating_mul(PARTITIONS);
        self.first_slots.entry(route.clone()).or_insert(next);
        Ok(())
    }

    pub(super) fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        Slot(self.first_slots.get(route).copied().unwrap_or_default() + partition(message))
    }

    /// Counts a call of `send`; its number.
    pub(super) fn begin_call(&mut self, session: u64) -> Option<u64> {
        let live = self.sessions.get_mut(&session)?;
        if live.sink.is_taken() {
            for last_unaware_call in live.failed.values_mut() {
                last_unaware_call.get_or_insert(live.calls);
            }
        }
        live.calls += 1;
        Some(live.calls)
    }

    /// Publishes a message of a call or reports why not. Does nothing for a session that is gone.
    pub(super) fn deliver(&mut self, session: u64, call: u64, outgoing: Outgoing, max_message_bytes: usize) {
        let Some(live) = self.sessions.get(&session) else { return };
        let failed = outgoing.lane.and_then(|lane| live.failed.get(&lane));
        let follows_failure = failed.is_some_and(|last_unaware_call| last_unaware_call.is_none_or(|last| call <= last));
        let outcome = if follows_failure { Outcome::NotSent } else { self.outcome_of(&outgoing, max_message_bytes) };
        let Some(live) = self.sessions.get_mut(&session) else { return };
        match &outcome {
            Outcome::Published => {
                let (topic, partition) = (outgoing.route.to_string(), partition(&outgoing.message));
                self.log.push(PublishedMessage { topic, partition, message: outgoing.message });
            }
            Outcome::NotSent => {}
            Outcome::SessionLost(_) => {
                live.sink.report(outgoing.ticket, outcome);
                self.sessions.remove(&session);
                return;
            }
            _ => live.failed.extend(outgoing.lane.map(|lane| (lane, None))),
        }
        live.sink.report(outgoing.ticket, outcome);
    }

    fn outcome_of(&mut self, outgoing: &Outgoing, max_message_bytes: usize) -> Outcome {
        let size = outgoing.message.payload.as_ref().len();
        if size > max_message_bytes {
            return Outcome::Reject(Reason::new(format!("payload has {size} bytes, the limit is {max_message_bytes}")));
        }
        if let Some(reason) = self.pause_of(&outgoing.route) {
            return Outcome::RoutePaused(reason);
        }
        self.failures.pop_front().unwrap_or(Outcome::Published)
    }
}

fn partition(message: &Message) -> u32 {
    let lane = message.lane().unwrap_or_else(|| LaneKey::of("", &message.id.to_string()));
    (lane.0 >> 32) as u32 % PARTITIONS
}
