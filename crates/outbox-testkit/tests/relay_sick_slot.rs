//! A destination that confirms nothing may hold only its share of the window.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outbox_core::ports::{
    LaneOrdering, Outcome, OutcomeSink, Outgoing, Reason, RouteName, Session, Slot, Ticket, Transport, TransportError,
};
use outbox_core::{Message, NewMessage, Relay, RelayConfig};
use outbox_testkit::memory::MemoryStorage;

const SICK: Slot = Slot(0);
const WELL: Slot = Slot(1);

/// Two slots; the sick one publishes but confirms nothing until it is healed.
#[derive(Clone, Default)]
struct TwoSlots(Arc<Mutex<Broker>>);

#[derive(Default)]
struct Broker {
    healed: bool,
    unconfirmed: Vec<(OutcomeSink, Ticket)>,
    published: Vec<(Slot, i64)>,
}

impl TwoSlots {
    fn seqs(&self, slot: Slot) -> Vec<i64> {
        self.0.lock().unwrap().published.iter().filter(|(of, _)| *of == slot).map(|(_, seq)| *seq).collect()
    }

    fn unconfirmed(&self) -> usize {
        self.0.lock().unwrap().unconfirmed.len()
    }

    fn heal(&self) {
        let mut broker = self.0.lock().unwrap();
        broker.healed = true;
        for (sink, ticket) in broker.unconfirmed.drain(..) {
            sink.report(ticket, Outcome::Published);
        }
    }
}

#[async_trait]
impl Transport for TwoSlots {
    fn lane_ordering(&self) -> LaneOrdering {
        LaneOrdering::Pipelined
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        Ok(message.aggregate_type.as_str().into())
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new(TwoSlotsSession { broker: self.clone(), sink }))
    }
}

struct TwoSlotsSession {
    broker: TwoSlots,
    sink: OutcomeSink,
}

#[async_trait]
impl Session for TwoSlotsSession {
    fn open_route(&self, _route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        Box::pin(async { Ok(()) })
    }

    fn slot(&self, _route: &RouteName, message: &Message) -> Slot {
        if message.aggregate_id.as_deref().is_some_and(|id| id.starts_with("sick")) { SICK } else { WELL }
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let mut broker = self.broker.0.lock().unwrap();
        for one in messages {
            broker.published.push((one.slot, one.message.seq));
            // its first message is confirmed, as that of a destination that falls sick later
            if one.slot == SICK
                && !broker.healed
                && broker.published.iter().filter(|(slot, _)| *slot == SICK).count() > 1
            {
                broker.unconfirmed.push((self.sink.clone(), one.ticket));
            } else {
                self.sink.report(one.ticket, Outcome::Published);
            }
        }
    }

    async fn close(self: Box<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn the_rest_goes_on_beside_a_sick_destination_and_its_own_messages_follow_in_order() {
    let (storage, transport) = (MemoryStorage::new(1), TwoSlots::default());
    for n in 0..300 {
        let key = if n % 3 == 0 { format!("well{}", n % 5) } else { format!("sick{}", n % 7) };
        storage.append(&NewMessage::new("order", "happened", Vec::new()).aggregate_id(key)).unwrap();
    }
    let config = RelayConfig { batch_size: 20, max_in_flight: 40, ..RelayConfig::default() };
    let relay = Relay::builder(storage.clone(), transport.clone()).config(config).build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(relay.run(async move { drop(stopped.await) }));
    let until = async |what: &str, condition: &dyn Fn() -> bool| {
        let waited = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
    };
    until("all of the well destination is through", &|| transport.seqs(WELL).len() == 100).await;
    assert!(transport.unconfirmed() <= 20, "the sick one holds its share of the window at most");
    transport.heal();
    until("the rest is through", &|| storage.pending().is_empty()).await;
    let sick = transport.seqs(SICK);
    assert_eq!((sick.len(), sick.is_sorted()), (200, true), "in order, and nothing twice");
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}
