use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use slab::Slab;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::given_up::GivenUp;
use super::lanes::Entry;
use super::routes::{RouteId, RouteStatus, Routes};
use super::slots::Slots;
use crate::ports::{
    Outcome, OutcomeSink, Outcomes, Outgoing, Reason, Session, ShardId, Slot, Ticket, Transport, TransportError,
};

/// Messages handed over in one call.
const SEND_ROWS: usize = 2_000;
/// Bits of a ticket that name the place in the table of what is in flight; the rest is a serial number.
const PLACE_BITS: u32 = 24;

/// The session with the broker and what is in flight in it.
pub(super) struct Publisher {
    session: Option<Box<dyn Session>>,
    op: Option<BoxFuture<'static, SessionEvent>>,
    outcomes: Option<Outcomes>,
    opening: FuturesUnordered<BoxFuture<'static, (RouteId, Result<(), Outcome>)>>,
    pub(super) slots: Slots,
    flight: Slab<InFlight>,
    overflow: Vec<Entry>,
    serial: u64,
    /// Nothing was confirmed yet in this session: one message goes first.
    proven: bool,
    share: usize,
    first_alone: bool,
    pub(super) down_since: Option<Instant>,
    retry_at: Instant,
    failures: u32,
}

pub(super) enum SessionEvent {
    Connected(Result<(Box<dyn Session>, Outcomes), TransportError>),
    Sent(Box<dyn Session>),
    Closed,
}

/// What the session says next.
pub(super) enum Next {
    Session(SessionEvent),
    RouteOpened(RouteId, Result<(), Outcome>),
    Outcomes,
}

/// Where to read again, by shard.
pub(super) type Recovered = Vec<(ShardId, i64)>;

/// A message handed to the session, without its outcome.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) entry: Entry,
    pub(super) slot: Slot,
    pub(super) sent_at: Instant,
    serial: u64,
}

impl Publisher {
    pub(super) fn new(share: usize, first_alone: bool, now: Instant) -> Self {
        Self {
            session: None,
            op: None,
            outcomes: None,
            opening: FuturesUnordered::new(),
            slots: Slots::new(share, first_alone),
            flight: Slab::new(),
            overflow: Vec::new(),
            serial: 0,
            proven: false,
            share,
            first_alone,
            down_since: Some(now),
            retry_at: now,
            failures: 0,
        }
    }

    /// Waits for whatever the session says next; outcomes go to `into`, which must be empty.
    pub(super) async fn next(&mut self, into: &mut Vec<(Ticket, Outcome)>) -> Next {
        let (op, opening, outcomes) = (&mut self.op, &mut self.opening, &mut self.outcomes);
        let event = async {
            match op {
                Some(op) => op.await,
                None => std::future::pending().await,
            }
        };
        let opened = async {
            match opening.next().await {
                Some(opened) => opened,
                None => std::future::pending().await,
            }
        };
        let reported = async {
            match outcomes {
                Some(outcomes) => outcomes.take(into).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            biased;
            event = event => Next::Session(event),
            (id, result) = opened => Next::RouteOpened(id, result),
            () = reported => Next::Outcomes,
        };
        if matches!(next, Next::Session(_)) {
            self.op = None;
        }
        next
    }

    /// What the session said of a broker that takes nothing at the moment, once.
    pub(super) fn blocked_news(&mut self) -> Option<Option<Reason>> {
        self.outcomes.as_mut()?.blocked_news()
    }

    /// Takes the reports that are there already; `false` when there are none.
    pub(super) fn outcomes_now(&mut self, into: &mut Vec<(Ticket, Outcome)>) -> bool {
        self.outcomes.as_mut().is_some_and(|outcomes| outcomes.take_now(into))
    }

    pub(super) fn connect(&mut self, transport: &Arc<dyn Transport>, now: Instant) {
        if self.op.is_some() || self.session.is_some() || now < self.retry_at {
            return;
        }
        let transport = transport.clone();
        self.op = Some(Box::pin(
            async move {
                let (sink, outcomes) = OutcomeSink::channel();
                SessionEvent::Connected(transport.connect(sink).await.map(|session| (session, outcomes)))
            }
            .instrument(tracing::debug_span!("outbox.connect")),
        ));
    }

    pub(super) fn connected(&mut self, session: Box<dyn Session>, outcomes: Outcomes) {
        self.session = Some(session);
        self.outcomes = Some(outcomes);
        self.slots = Slots::new(self.share, self.first_alone);
        self.proven = false;
        self.down_since = None;
    }

    /// Counts a failed or lost session; the caller says how long to wait with [`retry_at`](Self::retry_at).
    pub(super) fn count_failure(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    pub(super) fn retry_at(&mut self, at: Instant) {
        self.retry_at = at;
    }

    pub(super) fn is_up(&self) -> bool {
        self.down_since.is_none()
    }

    pub(super) fn sent(&mut self, session: Box<dyn Session>) {
        self.session = Some(session);
    }

    /// Looks up the routes that have messages, and those whose pause is over.
    pub(super) fn open_routes(&mut self, routes: &mut Routes, now: Instant) {
        let Some(session) = &self.session else { return };
        let mut due = Vec::new();
        for (id, route) in routes.iter_mut() {
            let wanted = match route.status {
                RouteStatus::Unopened => !route.waiting.is_empty(),
                RouteStatus::Paused { until, .. } => now >= until && route.in_flight == 0,
                RouteStatus::Opening | RouteStatus::Open => false,
            };
            if wanted {
                let open = session.open_route(&route.name);
                self.opening.push(Box::pin(async move { (id, open.await) }));
                due.push(id);
            }
        }
        for id in due {
            routes.set_status(id, RouteStatus::Opening);
        }
    }

    /// Hands over what may go now.
    pub(super) fn send(&mut self, routes: &mut Routes, now: Instant) {
        let Some(session) = &self.session else { return };
        for (_, route) in routes.iter_mut().filter(|(_, route)| route.status == RouteStatus::Open) {
            for entry in route.waiting.drain(..) {
                let slot = session.slot(&route.name, &entry.message);
                if let Err(entry) = self.slots.push(slot, entry) {
                    self.overflow.push(entry);
                }
            }
        }
        let limit = match (self.proven, self.flight.is_empty()) {
            (true, _) => SEND_ROWS,
            (false, true) => 1,
            (false, false) => return,
        };
        let mut batch = Vec::new();
        let (flight, serial) = (&mut self.flight, &mut self.serial);
        self.slots.take(limit, now, |slot, entry| {
            let route = routes.get_mut(entry.route);
            route.in_flight += 1;
            *serial += 1;
            let (message, lane, name) = (entry.message.clone(), entry.lane, route.name.clone());
            let place = flight.insert(InFlight { entry, slot, sent_at: now, serial: *serial });
            let ticket = Ticket((*serial << PLACE_BITS) | place as u64);
            batch.push(Outgoing { ticket, message, lane, route: name, slot });
        });
        if batch.is_empty() {
            return;
        }
        if let Some(mut session) = self.session.take() {
            self.op = Some(Box::pin(
                async move {
                    session.send(batch).await;
                    SessionEvent::Sent(session)
                }
                .instrument(tracing::debug_span!("outbox.publish")),
            ));
        }
    }

    /// Entries that came for a sick slot; the slot has noted them.
    pub(super) fn overflow(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.overflow)
    }

    /// Takes a message out of the flight by its ticket, with where to read again when its slot was sick and is well now.
    /// `None`: an outcome that nothing waits for.
    pub(super) fn land(&mut self, ticket: Ticket, published: bool) -> Option<(InFlight, Option<Recovered>)> {
        let place = usize::try_from(ticket.0 & ((1 << PLACE_BITS) - 1)).ok()?;
        if self.flight.get(place)?.serial != ticket.0 >> PLACE_BITS {
            return None;
        }
        let landed = self.flight.remove(place);
        let recovered = self.slots.closed_one(landed.slot, published);
        if published {
            self.proven = true;
            self.failures = 0;
        }
        Some((landed, recovered.map(GivenUp::into_rewinds)))
    }

    /// Destroys the session at once. Returns what was in flight.
    pub(super) fn lose(&mut self, now: Instant) -> Vec<Entry> {
        self.session = None;
        self.op = None;
        self.outcomes = None;
        self.opening.clear();
        self.overflow.clear();
        self.slots = Slots::new(self.share, self.first_alone);
        self.down_since = Some(self.down_since.unwrap_or(now));
        self.flight.drain().map(|landed| landed.entry).collect()
    }

    /// Ends the session after everything sent was confirmed.
    pub(super) fn close(&mut self) -> bool {
        if self.op.is_some() {
            return false;
        }
        let Some(session) = self.session.take() else { return true };
        self.op = Some(Box::pin(async move {
            session.close().await;
            SessionEvent::Closed
        }));
        false
    }

    pub(super) fn next_action(&self) -> Option<Instant> {
        (self.op.is_none() && self.session.is_none()).then_some(self.retry_at)
    }
}
