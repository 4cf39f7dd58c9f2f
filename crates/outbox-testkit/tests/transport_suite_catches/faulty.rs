use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outbox_core::ports::*;
use outbox_core::{Headers, Message};
use outbox_testkit::BoxError;
use outbox_testkit::memory::MemoryTransport;
use outbox_testkit::transport_suite::{Received, TransportFixture};
use uuid::Uuid;

/// What a transport may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    ConfirmsWithoutSending,
    ReportsTwice,
    SendsTwice,
    ReportsNothing,
    SendsBackwards,
    LosesHeaders,
    InventsKeys,
    RoutesAtRandom,
    SpreadsKeysOverSlots,
    NumbersSlotsByRoute,
    OpensEveryRoute,
    TruncatesLargeMessages,
    SendsFollowersOfTheRejected,
    RejectsNeighbours,
    ClosesWithoutWaiting,
    HangsWithoutBroker,
}

/// The in-memory transport with a defect.
pub(crate) struct FaultyFixture {
    inner: Box<dyn TransportFixture>,
    defect: Defect,
}

impl FaultyFixture {
    pub(crate) fn new(defect: Defect) -> Self {
        Self { inner: Box::new(MemoryTransport::fixture(LaneOrdering::Pipelined)), defect }
    }
}

#[async_trait]
impl TransportFixture for FaultyFixture {
    async fn transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        let (inner, oversize_bytes) = (self.inner.transport().await?, self.inner.oversize_bytes());
        Ok(Arc::new(FaultyTransport { inner, defect: self.defect, oversize_bytes }))
    }

    async fn unreachable_transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        let (inner, oversize_bytes) = (self.inner.unreachable_transport().await?, self.inner.oversize_bytes());
        Ok(Arc::new(FaultyTransport { inner, defect: self.defect, oversize_bytes }))
    }

    async fn missing_destination(&self) -> Result<String, BoxError> {
        self.inner.missing_destination().await
    }

    async fn create_destination(&self, aggregate_type: &str) -> Result<(), BoxError> {
        self.inner.create_destination(aggregate_type).await
    }

    async fn received(&self, aggregate_type: &str) -> Result<Vec<Received>, BoxError> {
        self.inner.received(aggregate_type).await
    }

    fn oversize_bytes(&self) -> usize {
        self.inner.oversize_bytes()
    }
}

struct FaultyTransport {
    inner: Arc<dyn Transport>,
    defect: Defect,
    oversize_bytes: usize,
}

#[async_trait]
impl Transport for FaultyTransport {
    fn lane_ordering(&self) -> LaneOrdering {
        self.inner.lane_ordering()
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        if self.defect == Defect::RoutesAtRandom {
            return Ok(Uuid::new_v4().to_string().as_str().into());
        }
        self.inner.route(message)
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        match self.inner.connect(sink.clone()).await {
            Ok(inner) => {
                let (defect, oversize_bytes) = (self.defect, self.oversize_bytes);
                Ok(Box::new(FaultySession { inner: Some(inner), sink, defect, oversize_bytes }))
            }
            Err(_) if self.defect == Defect::HangsWithoutBroker => std::future::pending().await,
            Err(error) => Err(error),
        }
    }
}

struct FaultySession {
    inner: Option<Box<dyn Session>>,
    sink: OutcomeSink,
    defect: Defect,
    oversize_bytes: usize,
}

impl FaultySession {
    fn inner(&self) -> &dyn Session {
        self.inner.as_deref().expect("present until it is closed or dropped")
    }

    fn is_oversize(&self, outgoing: &Outgoing) -> bool {
        outgoing.message.payload.as_ref().len() >= self.oversize_bytes
    }

    /// Changes a message on its way.
    fn spoil(&self, mut outgoing: Outgoing) -> Outgoing {
        let mut message = Message::clone(&outgoing.message);
        match self.defect {
            Defect::LosesHeaders => message.headers = Headers::default(),
            Defect::InventsKeys => message.aggregate_id = Some(message.aggregate_id.unwrap_or_default()),
            Defect::TruncatesLargeMessages if self.is_oversize(&outgoing) => message.payload = b"".to_vec().into(),
            Defect::SendsFollowersOfTheRejected => outgoing.lane = None,
            _ => {}
        }
        Outgoing { message: Arc::new(message), ..outgoing }
    }
}

#[async_trait]
impl Session for FaultySession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        let opened = self.inner().open_route(route);
        let ignores = self.defect == Defect::OpensEveryRoute;
        Box::pin(async move { if ignores { Ok(()) } else { opened.await } })
    }

    fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        match self.defect {
            Defect::SpreadsKeysOverSlots => Slot(message.id.as_u128() as u32 % 4),
            Defect::NumbersSlotsByRoute => Slot(self.inner().slot(route, message).0 % 4),
            _ => self.inner().slot(route, message),
        }
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let any_oversize = messages.iter().any(|outgoing| self.is_oversize(outgoing));
        let mut messages: Vec<_> = messages.into_iter().map(|outgoing| self.spoil(outgoing)).collect();
        match self.defect {
            Defect::ConfirmsWithoutSending | Defect::ReportsTwice => {
                messages.iter().for_each(|outgoing| self.sink.report(outgoing.ticket, Outcome::Published));
            }
            Defect::RejectsNeighbours if any_oversize => {
                let reject = || Outcome::Reject(Reason::new("the whole call is too large"));
                messages.drain(..).for_each(|outgoing| self.sink.report(outgoing.ticket, reject()));
            }
            Defect::SendsBackwards => messages.reverse(),
            _ => {}
        }
        match self.defect {
            Defect::ConfirmsWithoutSending | Defect::ReportsNothing => return,
            Defect::SendsTwice => self.inner.as_mut().expect("open").send(messages.clone()).await,
            _ => {}
        }
        self.inner.as_mut().expect("open").send(messages).await;
    }

    async fn close(mut self: Box<Self>) {
        if let Some(inner) = self.inner.take().filter(|_| self.defect != Defect::ClosesWithoutWaiting) {
            inner.close().await;
        }
    }
}
