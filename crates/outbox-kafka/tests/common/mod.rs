//! What the tests of this crate share: a session as the relay would hold it, and a broker to look into.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod broker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::{
    Outcome, OutcomeSink, Outcomes, Outgoing, Reason, RouteName, Session, ShardId, Ticket, Transport,
};
use outbox_kafka::KafkaTransport;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A session and what it reported.
pub(crate) struct Dispatch {
    transport: KafkaTransport,
    session: Box<dyn Session>,
    outcomes: Outcomes,
    reported: HashMap<Ticket, Outcome>,
    lost: Option<Reason>,
    next_ticket: u64,
}

impl Dispatch {
    pub(crate) async fn connect(transport: &KafkaTransport) -> Self {
        let (sink, outcomes) = OutcomeSink::channel();
        let session = transport.connect(sink).await.expect("a session");
        let transport = transport.clone();
        Self { transport, session, outcomes, reported: HashMap::new(), lost: None, next_ticket: 0 }
    }

    /// A session with an open route to a topic.
    pub(crate) async fn open(transport: &KafkaTransport, topic: &str) -> Self {
        let dispatch = Self::connect(transport).await;
        assert_eq!(dispatch.open_route(topic).await, Ok(()));
        dispatch
    }

    pub(crate) async fn open_route(&self, topic: &str) -> Result<(), Outcome> {
        timeout(DEADLINE, self.session.open_route(&RouteName::from(topic))).await.expect("open_route ends")
    }

    /// Hands messages over in one call.
    pub(crate) async fn send(&mut self, messages: &[Message]) -> Vec<Ticket> {
        let outgoing: Vec<_> = messages.iter().map(|message| self.outgoing(message)).collect();
        let tickets = outgoing.iter().map(|outgoing| outgoing.ticket).collect();
        timeout(DEADLINE, self.session.send(outgoing)).await.expect("send ends");
        tickets
    }

    /// Sends messages one after the other, each alone, until all are published.
    pub(crate) async fn publish(&mut self, messages: &[Message]) {
        for message in messages {
            let ticket = self.send(std::slice::from_ref(message)).await[0];
            assert_eq!(self.outcome(ticket).await, Outcome::Published);
        }
    }

    /// Waits for the outcome of one message, which the session must not be lost before.
    pub(crate) async fn outcome(&mut self, ticket: Ticket) -> Outcome {
        while !self.reported.contains_key(&ticket) {
            assert_eq!(self.lost, None, "the session was lost before the outcome of {ticket:?}");
            self.take().await;
        }
        self.reported[&ticket].clone()
    }

    /// Waits until the session is lost.
    pub(crate) async fn lost(&mut self) -> Reason {
        loop {
            if let Some(reason) = &self.lost {
                return reason.clone();
            }
            self.take().await;
        }
    }

    /// What was reported for a message so far.
    pub(crate) fn reported(&self, ticket: Ticket) -> Option<&Outcome> {
        self.reported.get(&ticket)
    }

    pub(crate) async fn close(self) {
        timeout(DEADLINE, self.session.close()).await.expect("close ends");
    }

    fn outgoing(&mut self, message: &Message) -> Outgoing {
        self.next_ticket += 1;
        let route = self.transport.route(message).expect("a route");
        let slot = self.session.slot(&route, message);
        let (lane, message) = (message.lane(), Arc::new(message.clone()));
        Outgoing { ticket: Ticket(self.next_ticket), lane, message, route, slot }
    }

    async fn take(&mut self) {
        let mut reports = Vec::new();
        timeout(DEADLINE, self.outcomes.take(&mut reports)).await.expect("the session reports something");
        for (ticket, outcome) in reports {
            assert_eq!(self.lost, None, "{ticket:?} was reported after the session was lost: {outcome:?}");
            if let Outcome::SessionLost(reason) = outcome {
                self.lost = Some(reason);
            } else {
                assert_eq!(self.reported.insert(ticket, outcome), None, "{ticket:?} got two outcomes");
            }
        }
    }
}

pub(crate) fn message(topic: &str, key: Option<&str>, payload: impl Into<Payload>) -> Message {
    Message {
        id: Uuid::now_v7(),
        shard: ShardId(0),
        seq: 1,
        aggregate_type: topic.to_owned(),
        aggregate_id: key.map(str::to_owned),
        event_type: "order.placed".to_owned(),
        payload: payload.into(),
        content_type: "application/json".to_owned(),
        headers: Headers::default(),
        occurred_at: OffsetDateTime::now_utc(),
        attempts: 0,
    }
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7())
}

/// Looks at a condition until it gives a value.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
