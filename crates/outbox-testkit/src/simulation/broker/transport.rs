use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::Message;
use outbox_core::ports::{LaneOrdering, OutcomeSink, Reason, RouteName, Session, Transport, TransportError};

use super::Producer;
use super::session::SimSession;
use crate::simulation::ledger::Nature;
use crate::simulation::scenario::ELSEWHERE;
use crate::simulation::world::{World, on_server};

/// The way of one relay's process to the broker. The topic is the aggregate type.
pub(in crate::simulation) struct SimTransport {
    pub(in crate::simulation) world: Arc<World>,
    pub(in crate::simulation) relay: usize,
}

#[async_trait]
impl Transport for SimTransport {
    fn lane_ordering(&self) -> LaneOrdering {
        self.world.scenario.lanes
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        let mut state = self.world.lock();
        if state.ledger.find(message.id).is_some_and(|record| record.nature == Nature::Unroutable) {
            state.ledger.rejected(message.id);
            return Err(Reason::new("no topic can have this name"));
        }
        if message.event_type == ELSEWHERE {
            return Ok(format!("{}.{ELSEWHERE}", message.aggregate_type).into());
        }
        Ok(message.aggregate_type.as_str().into())
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        let (world, relay) = (self.world.clone(), self.relay);
        let opened = on_server(async move {
            let latency = world.roll(|dice| dice.millis(0, 30));
            tokio::time::sleep(latency).await;
            world.step(|state| (!state.broker.is_down()).then_some(())).map(|()| world)
        });
        let Ok(Some(world)) = opened.await else {
            return Err(TransportError::new("the broker is down"));
        };
        let number = world.step(|state| {
            state.broker.sessions_made += 1;
            let number = state.broker.sessions_made;
            let producer = Producer { relay, sink, slots: BTreeMap::new(), lies: BTreeSet::new() };
            state.broker.sessions.insert(number, producer);
            state.note(|| format!("relay {relay} opens session {number}"));
            number
        });
        Ok(Box::new(SimSession { world, relay, number }))
    }
}
