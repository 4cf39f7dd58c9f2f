//! How a broker without partitions fails (RabbitMQ): it blocks whole connections, and closes a channel without naming the message that
//! it refuses.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::ports::{Outcome, Reason, Slot, Ticket};
use tokio::time::{Instant, sleep_until};

use super::Flight;
use crate::simulation::ledger::Nature;
use crate::simulation::world::{State, World};

/// The broker takes nothing and confirms nothing for a while, and tells the sessions.
pub(in crate::simulation) fn block(world: &Arc<World>, time: Duration) {
    let until = Instant::now() + time;
    world.step(|state| {
        state.note(|| format!("the broker blocks for {time:?}"));
        state.broker.blocked_until = Some(until);
        tell(state, Some("low on memory"));
    });
    let world = world.clone();
    tokio::spawn(async move {
        sleep_until(until).await;
        world.step(|state| {
            if state.broker.blocked_for().is_none() {
                tell(state, None);
            }
        });
    });
}

fn tell(state: &State, reason: Option<&str>) {
    for producer in state.broker.sessions.values() {
        producer.sink.blocked(reason.map(Reason::new));
    }
}

impl State {
    /// Whether the next messages of a slot make the broker close the channel that the session's messages share.
    pub(super) fn closes_the_channel(&self, session: u64, slot: Slot, messages: usize) -> bool {
        let Some(producer) = self.broker.sessions.get(&session) else { return false };
        let Some(line) = producer.slots.get(&slot) else { return false };
        let is_poison = |flight: &Flight| {
            let poison = self.ledger.find(flight.id).is_some_and(|record| record.nature == Nature::Poison);
            poison && !self.broker.is_suspect(producer.relay, flight)
        };
        line.queue.iter().take(messages).any(is_poison)
    }

    /// Everything that is open on the shared channel comes back, whatever the broker has taken of it.
    pub(super) fn close_channel(&mut self, session: u64) {
        let Self { broker, ledger, dice, .. } = self;
        let Some(producer) = broker.sessions.get_mut(&session) else { return };
        let suspects = broker.suspects.entry(producer.relay).or_default();
        let mut open = Vec::new();
        for line in producer.slots.values_mut() {
            let is_missing = broker.missing_until.get(&line.topic).is_some_and(|&until| Instant::now() < until);
            let (kept, closed): (Vec<Flight>, Vec<Flight>) =
                line.queue.drain(..).partition(|flight| suspects.contains(&flight.id));
            line.queue.extend(kept);
            let taken = if is_missing { 0 } else { dice.below(closed.len() + 1) };
            for flight in &closed[..taken] {
                if ledger.find(flight.id).is_some_and(|record| record.nature == Nature::Healthy) {
                    ledger.published(flight.id);
                }
            }
            open.extend(closed);
        }
        ledger.fault(1);
        for flight in &open {
            suspects.insert(flight.id);
            producer.sink.report(flight.ticket, Outcome::Quarantine(Reason::new("the channel was closed")));
        }
        let count = open.len();
        self.note(|| format!("the channel of session {session} is closed with {count} messages"));
    }
}

impl super::Broker {
    fn is_suspect(&self, relay: usize, flight: &Flight) -> bool {
        self.suspects.get(&relay).is_some_and(|suspects| suspects.contains(&flight.id))
    }

    /// What was published or rejected is no suspect any more.
    pub(super) fn clear_suspects(&mut self, session: u64, slot: Slot, reports: &[(Ticket, Outcome)]) {
        let Some(producer) = self.sessions.get(&session) else { return };
        let (Some(suspects), Some(line)) = (self.suspects.get_mut(&producer.relay), producer.slots.get(&slot)) else {
            return;
        };
        for flight in &line.answered {
            let is_its = |(ticket, outcome): &(Ticket, Outcome)| {
                *ticket == flight.ticket && matches!(outcome, Outcome::Published | Outcome::Reject(_))
            };
            if reports.iter().any(is_its) {
                suspects.remove(&flight.id);
            }
        }
    }
}
