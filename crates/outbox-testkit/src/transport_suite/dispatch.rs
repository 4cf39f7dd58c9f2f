use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::{
    LaneOrdering, Outcome, OutcomeSink, Outcomes, Outgoing, RouteName, Session, ShardId, Slot, Ticket, Transport,
};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Received, TransportFixture};
use crate::BoxError;
use crate::case::{Patience, chain, eventually};

/// How long the next outcome may take.
const OUTCOME_DEADLINE: Duration = Duration::from_secs(30);

/// A session and the outcomes of what was sent through it; sends the way the relay does.
pub(super) struct Dispatch {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) session: Box<dyn Session>,
    pub(super) ledger: Ledger,
    proven: HashSet<Slot>,
}

/// The outcomes of one session.
pub(super) struct Ledger {
    outcomes: Outcomes,
    open: HashSet<Ticket>,
    reported: HashMap<Ticket, Outcome>,
    next_ticket: u64,
}

impl Dispatch {
    pub(super) async fn connect(transport: Arc<dyn Transport>) -> Self {
        let patience = Patience::new();
        loop {
            let (sink, outcomes) = OutcomeSink::channel();
            match transport.connect(sink).await {
                Ok(session) => {
                    let ledger = Ledger { outcomes, open: HashSet::new(), reported: HashMap::new(), next_ticket: 0 };
                    return Self { transport, session, ledger, proven: HashSet::new() };
                }
                Err(error) => patience.wait(|| format!("connect: {}", chain(&error))).await,
            }
        }
    }

    /// A session with a new destination, which is open in it.
    pub(super) async fn with_destination(fixture: &dyn TransportFixture) -> (Self, String) {
        let mut dispatch = Self::connect(fixed(fixture.transport().await)).await;
        let destination = new_destination(fixture).await;
        dispatch.open(&destination).await;
        (dispatch, destination)
    }

    /// Opens the route of an aggregate type.
    pub(super) async fn open(&mut self, aggregate_type: &str) -> RouteName {
        let route = self.transport.route(&message(aggregate_type, None, 0)).expect("a route");
        let patience = Patience::new();
        loop {
            match self.session.open_route(&route).await {
                Ok(()) => return route,
                Err(outcome) => patience.wait(|| format!("open_route: {outcome:?}")).await,
            }
        }
    }

    /// Gives a message its ticket. Its route must be open.
    pub(super) fn outgoing(&mut self, message: &Arc<Message>) -> Outgoing {
        let route = self.transport.route(message).expect("a route");
        let slot = self.session.slot(&route, message);
        Outgoing { ticket: self.ledger.ticket(), lane: message.lane(), message: message.clone(), route, slot }
    }

    /// Sends, and does not wait for outcomes.
    pub(super) async fn send(&mut self, messages: Vec<Outgoing>) {
        self.ledger.open.extend(messages.iter().map(|outgoing| outgoing.ticket));
        self.session.send(messages).await;
    }

    /// Sends messages in order the way the relay does (the first of each slot alone, and one a lane when the transport
    /// wants it so) until all are published.
    pub(super) async fn publish(&mut self, messages: &[Arc<Message>]) {
        let mut rest: Vec<_> = messages.iter().map(|message| self.outgoing(message)).collect();
        while !rest.is_empty() {
            let (chosen, later) = self.choose(rest);
            rest = later;
            let tickets: Vec<_> = chosen.iter().map(|outgoing| outgoing.ticket).collect();
            let slots: Vec<_> = chosen.iter().map(|outgoing| outgoing.slot).collect();
            self.send(chosen).await;
            for ticket in tickets {
                assert_eq!(self.ledger.outcome(ticket).await, Outcome::Published);
            }
            self.proven.extend(slots);
        }
    }

    fn choose(&self, messages: Vec<Outgoing>) -> (Vec<Outgoing>, Vec<Outgoing>) {
        let one_a_lane = self.transport.lane_ordering() == LaneOrdering::OneInFlight;
        let (mut waiting, mut first) = (HashSet::new(), HashSet::new());
        messages.into_iter().partition(|outgoing| {
            let lane_waits = outgoing.lane.is_some_and(|lane| waiting.contains(&lane));
            let chosen = !lane_waits && (self.proven.contains(&outgoing.slot) || first.insert(outgoing.slot));
            if !chosen || one_a_lane {
                waiting.extend(outgoing.lane);
            }
            chosen
        })
    }
}

impl Ledger {
    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Waits for the outcome of a message.
    pub(super) async fn outcome(&mut self, ticket: Ticket) -> Outcome {
        while !self.reported.contains_key(&ticket) {
            self.take().await;
        }
        self.reported[&ticket].clone()
    }

    /// Takes what has been reported already, waiting for nothing; how many messages have no outcome yet.
    pub(super) async fn open_now(&mut self) -> usize {
        let mut reports = Vec::new();
        let _ = timeout(Duration::ZERO, self.outcomes.take(&mut reports)).await;
        self.record(reports);
        self.open.len()
    }

    pub(super) fn all_published(&self) -> bool {
        self.open.is_empty() && self.reported.values().all(|outcome| *outcome == Outcome::Published)
    }

    async fn take(&mut self) {
        let mut reports = Vec::new();
        let taken = timeout(OUTCOME_DEADLINE, self.outcomes.take(&mut reports)).await;
        assert!(taken.is_ok(), "{} messages have no outcome after {} s", self.open.len(), OUTCOME_DEADLINE.as_secs());
        self.record(reports);
    }

    fn record(&mut self, reports: Vec<(Ticket, Outcome)>) {
        for (ticket, outcome) in reports {
            assert!(!matches!(outcome, Outcome::SessionLost(_)), "the session was lost: {outcome:?}");
            assert!(self.open.remove(&ticket), "{ticket:?} got an outcome twice or was never sent: {outcome:?}");
            self.reported.insert(ticket, outcome);
        }
    }
}

/// Creates a destination.
pub(super) async fn new_destination(fixture: &dyn TransportFixture) -> String {
    let name = fixed(fixture.missing_destination().await);
    fixed(fixture.create_destination(&name).await);
    name
}

/// Waits until the destination has received at least `count` messages.
pub(super) async fn received(fixture: &dyn TransportFixture, destination: &str, count: usize) -> Vec<Received> {
    eventually("the destination has received what was published", || async {
        Some(fixed(fixture.received(destination).await)).filter(|received| received.len() >= count)
    })
    .await
}

/// Message number `n` of a key.
pub(super) fn message(aggregate_type: &str, key: Option<&str>, n: usize) -> Message {
    Message {
        id: Uuid::now_v7(),
        shard: ShardId(0),
        seq: i64::try_from(n).expect("a small number") + 1,
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id: key.map(str::to_owned),
        event_type: "order.changed".to_owned(),
        payload: Payload::from(n.to_string().into_bytes()),
        content_type: "application/json".to_owned(),
        headers: Headers::default(),
        occurred_at: OffsetDateTime::now_utc(),
        attempts: 0,
    }
}

/// # Panics
///
/// When the fixture failed.
pub(super) fn fixed<T>(result: Result<T, BoxError>) -> T {
    result.unwrap_or_else(|error| panic!("the fixture failed: {}", chain(&*error)))
}
