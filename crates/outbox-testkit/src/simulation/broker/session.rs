use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use outbox_core::Message;
use outbox_core::message::LaneKey;
use outbox_core::ports::{LaneOrdering, Outcome, Outgoing, Reason, RouteName, Session, Slot};

use super::{Flight, Line};
use crate::simulation::Defect;
use crate::simulation::ledger::Nature;
use crate::simulation::world::{State, World, on_server};

/// How often a session that is blocked looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) struct SimSession {
    pub(super) world: Arc<World>,
    pub(super) relay: usize,
    pub(super) number: u64,
}

#[async_trait]
impl Session for SimSession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        let (world, number, route) = (self.world.clone(), self.number, route.clone());
        async move {
            let looked_up = on_server(async move {
                let latency = world.roll(|dice| dice.millis(0, 20));
                tokio::time::sleep(latency).await;
                world.step(|state| match state.broker.sessions.contains_key(&number) {
                    false => Err(Outcome::SessionLost(Reason::new("the session is gone"))),
                    true if state.broker.is_missing(&route) => Err(Outcome::RoutePaused(Reason::new("unknown topic"))),
                    true => Ok(()),
                })
            });
            looked_up.await.unwrap_or_else(|_| Err(Outcome::SessionLost(Reason::new("no answer"))))
        }
        .boxed()
    }

    fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        let partitions = self.world.scenario.partitions;
        let kind = message.aggregate_type.as_str();
        let topic = self.world.scenario.topics.iter().position(|topic| topic == kind).unwrap_or(0) * 2;
        let topic = topic + usize::from(**route != *kind);
        let hash = message.lane().map_or(message.id.as_u64_pair().1, |lane| lane.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let partition = u32::try_from((hash >> 40) % u64::from(partitions)).unwrap_or(0);
        Slot(u32::try_from(topic).unwrap_or(0) * partitions + partition)
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let moved = self.world.step(|state| self.hand_over(state, messages));
        for slot in moved {
            tokio::spawn(super::delivery::deliver(self.world.clone(), self.number, slot));
        }
        let blocked = || self.world.lock().broker.blocked_for();
        while let Some(time) = blocked() {
            tokio::time::sleep(time.min(LOOK_AGAIN)).await;
        }
        let full = self.world.roll(|dice| dice.once_in(10).then(|| dice.millis(1, 30)));
        if let Some(time) = full {
            tokio::time::sleep(time).await;
        }
    }

    async fn close(self: Box<Self>) {
        let open = |state: &State| {
            let producer = state.broker.sessions.get(&self.number)?;
            producer.slots.values().any(|line| !line.queue.is_empty() || !line.answered.is_empty()).then_some(())
        };
        while open(&self.world.lock()).is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl SimSession {
    /// Takes messages into the producer; the slots that have to start moving.
    fn hand_over(&self, state: &mut State, messages: Vec<Outgoing>) -> Vec<Slot> {
        let scenario = &self.world.scenario;
        let mut moved = Vec::new();
        let mut stopped: Vec<LaneKey> = Vec::new();
        let State { broker, ledger, database, .. } = state;
        let mut handed = Vec::new();
        for outgoing in messages {
            ledger.handed(self.relay, &outgoing, database);
            handed.push(outgoing.message.seq);
            let Some(producer) = broker.sessions.get_mut(&self.number) else { continue };
            let line = producer.slots.entry(outgoing.slot).or_insert_with(|| Line::new(&outgoing.route));
            let nature = ledger.find(outgoing.message.id).map_or(Nature::Healthy, |record| record.nature);
            if outgoing.lane.is_some_and(|lane| stopped.contains(&lane)) {
                producer.sink.report(outgoing.ticket, Outcome::NotSent);
                continue;
            }
            if nature == Nature::RefusedLocally {
                ledger.rejected(outgoing.message.id);
                producer.sink.report(outgoing.ticket, Outcome::Reject(Reason::new("larger than the producer takes")));
                stopped.extend(outgoing.lane);
                continue;
            }
            if scenario.defect == Some(Defect::MarkBeforeConfirm) {
                producer.sink.report(outgoing.ticket, Outcome::Published);
                producer.lies.insert(outgoing.ticket);
            }
            let doomed = scenario.lanes == LaneOrdering::Pipelined
                && outgoing.lane.is_some_and(|lane| line.failed.contains(&lane));
            line.queue.push_back(Flight {
                ticket: outgoing.ticket,
                id: outgoing.message.id,
                lane: outgoing.lane,
                doomed,
            });
            if !std::mem::replace(&mut line.moving, true) {
                moved.push(outgoing.slot);
            }
        }
        state.note(|| format!("relay {} hands {handed:?} to session {}", self.relay, self.number));
        moved
    }
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.world.step(|state| {
            if state.broker.sessions.contains_key(&self.number) {
                state.note(|| format!("relay {} drops session {}", self.relay, self.number));
            }
        });
        super::delivery::abandon(&self.world, self.number, None);
    }
}
