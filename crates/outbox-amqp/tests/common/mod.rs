//! What the tests of this crate share: a session as the relay would hold it, and a broker to look into.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod broker;
pub(crate) mod running;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outbox_amqp::AmqpTransport;
use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::{Outcome, OutcomeSink, Outcomes, Outgoing, Reason, Session, ShardId, Ticket, Transport};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A session and what it reported.
pub(crate) struct Dispatch {
    transport: AmqpTransport,
    session: Box<dyn Session>,
    outcomes: Outcomes,
    reported: HashMap<Ticket, Outcome>,
    lost: Option<Reason>,
    blocked: Option<Reason>,
    next_ticket: u64,
}

impl Dispatch {
    pub(crate) async fn connect(transport: &AmqpTransport) -> Self {
        let (sink, outcomes) = OutcomeSink::channel();
        let session = transport.connect(sink).await.expect("a session");
        let transport = transport.clone();
        Self { transport, session, outcomes, reported: HashMap::new(), lost: None, blocked: None, next_ticket: 0 }
    }

    /// A session with an open route for a message.
    pub(crate) async fn open(transport: &AmqpTransport, message: &Message) -> Self {
        let dispatch = Self::connect(transport).await;
        assert_eq!(dispatch.open_route(message).await, Ok(()));
        dispatch
    }

    /// Opens the route of a message.
    pub(crate) async fn open_route(&self, message: &Message) -> Result<(), Outcome> {
        let route = self.transport.route(message).expect("a route");
        timeout(DEADLINE, self.session.open_route(&route)).await.expect("open_route ends")
    }

    /// Hands messages over in one call.
    pub(crate) async fn send(&mut self, messages: &[Message]) -> Vec<Ticket> {
        let outgoing: Vec<_> = messages.iter().map(|message| self.outgoing(message)).collect();
        let tickets = outgoing.iter().map(|outgoing| outgoing.ticket).collect();
        timeout(DEADLINE, self.session.send(outgoing)).await.expect("send ends");
        tickets
    }

    /// Hands messages over in a call that does not end.
    pub(crate) async fn send_hangs(&mut self, messages: &[Message]) {
        let outgoing: Vec<_> = messages.iter().map(|message| self.outgoing(message)).collect();
        let sent = timeout(Duration::from_secs(1), self.session.send(outgoing)).await;
        assert!(sent.is_err(), "send ended");
    }

    /// Sends messages one after the other, each alone, until all are published.
    pub(crate) async fn publish(&mut self, messages: &[Message]) {
        for message in messages {
            let ticket = self.send(std::slice::from_ref(message)).await[0];
            assert_eq!(self.outcome(ticket).await, Outcome::Published);
        }
    }

    /// Sends in one call and waits for the outcome of each.
    pub(crate) async fn outcomes(&mut self, messages: &[Message]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for ticket in self.send(messages).await {
            outcomes.push(self.outcome(ticket).await);
        }
        outcomes
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

    /// Waits until the broker blocks the session, or no longer does.
    pub(crate) async fn until_blocked(&mut self, is_blocked: bool) -> Option<Reason> {
        while self.blocked.is_some() != is_blocked {
            assert_eq!(self.lost, None, "the session was lost");
            self.take().await;
        }
        self.blocked.clone()
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
        if let Some(blocked) = self.outcomes.blocked_news() {
            self.blocked = blocked;
        }
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

pub(crate) fn message(aggregate_type: &str, key: Option<&str>, payload: impl Into<Payload>) -> Message {
    Message {
        id: Uuid::now_v7(),
        shard: ShardId(0),
        seq: 1,
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id: key.map(str::to_owned),
        event_type: "placed".to_owned(),
        payload: payload.into(),
        content_type: "application/json".to_owned(),
        headers: Headers::default(),
        occurred_at: OffsetDateTime::now_utc(),
        attempts: 0,
    }
}

/// The same message with headers from a JSON text.
pub(crate) fn with_headers(message: Message, json: &str) -> Message {
    Message { headers: Headers::from_json(json), ..message }
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
        sleep(Duration::from_millis(20)).await;
    }
}
