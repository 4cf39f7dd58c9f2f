use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outbox::Message;
use outbox::ports::{
    LaneOrdering, Outcome, OutcomeSink, Outgoing, Reason, RouteName, Session, Slot, Ticket, Transport, TransportError,
};
use uuid::Uuid;

/// When each event was committed and acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Acknowledgements {
    times: Arc<Mutex<HashMap<Uuid, Times>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Times {
    committed: Option<Instant>,
    acknowledged: Option<Instant>,
}

impl Acknowledgements {
    pub(super) fn committed(&self, id: Uuid, at: Instant) {
        self.change(id, |times| times.committed = Some(at));
    }

    fn acknowledged(&self, id: Uuid, at: Instant) {
        self.change(id, |times| times.acknowledged = times.acknowledged.or(Some(at)));
    }

    fn change(&self, id: Uuid, change: impl FnOnce(&mut Times)) {
        change(self.times.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default());
    }

    /// From commit to acknowledgement, of each event; `None` when one has only one of the two.
    pub(super) fn in_order_of_commit(&self) -> Option<Vec<Duration>> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut both: Vec<_> =
            times.values().map(|times| Some((times.committed?, times.acknowledged?))).collect::<Option<_>>()?;
        both.sort_unstable();
        // a relay that is woken by the database can be faster than the reply to the writer
        Some(
            both.into_iter()
                .map(|(committed, acknowledged)| acknowledged.saturating_duration_since(committed))
                .collect(),
        )
    }
}

/// A transport that notes when each message is acknowledged.
pub(super) struct Timed<T> {
    inner: T,
    acknowledgements: Acknowledgements,
}

impl<T: Transport> Timed<T> {
    pub(super) fn new(inner: T, acknowledgements: Acknowledgements) -> Self {
        Self { inner, acknowledgements }
    }
}

type Tickets = Arc<Mutex<HashMap<Ticket, Uuid>>>;

#[async_trait]
impl<T: Transport> Transport for Timed<T> {
    fn lane_ordering(&self) -> LaneOrdering {
        self.inner.lane_ordering()
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        self.inner.route(message)
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        let (inner_sink, mut outcomes) = OutcomeSink::channel();
        let inner = self.inner.connect(inner_sink).await?;
        let tickets = Tickets::default();
        let (acknowledgements, sent) = (self.acknowledgements.clone(), tickets.clone());
        tokio::spawn(async move {
            let mut reports = Vec::new();
            loop {
                outcomes.take(&mut reports).await;
                let now = Instant::now();
                for (ticket, outcome) in reports.drain(..) {
                    let id = sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
                    if let (Some(id), Outcome::Published) = (id, &outcome) {
                        acknowledgements.acknowledged(id, now);
                    }
                    sink.report(ticket, outcome);
                }
            }
        });
        Ok(Box::new(TimedSession { inner, tickets }))
    }
}

struct TimedSession {
    inner: Box<dyn Session>,
    tickets: Tickets,
}

#[async_trait]
impl Session for TimedSession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        self.inner.open_route(route)
    }

    fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        self.inner.slot(route, message)
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        {
            let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
            tickets.extend(messages.iter().map(|outgoing| (outgoing.ticket, outgoing.message.id)));
        }
        self.inner.send(messages).await;
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}
