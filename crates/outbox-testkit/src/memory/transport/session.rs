use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outbox_core::message::Message;
use outbox_core::ports::{Outcome, Outgoing, RouteName, Session, Slot};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::MemoryTransport;

pub(super) struct MemorySession {
    transport: MemoryTransport,
    number: u64,
    queue: Option<mpsc::UnboundedSender<Call>>,
    worker: Option<JoinHandle<()>>,
}

/// The messages of one call of `send`.
struct Call {
    number: u64,
    due: Instant,
    messages: Vec<Outgoing>,
}

impl MemorySession {
    pub(super) fn new(transport: MemoryTransport, number: u64) -> Self {
        let (queue, calls) = mpsc::unbounded_channel();
        let worker = tokio::spawn(deliver(transport.clone(), number, calls));
        Self { transport, number, queue: Some(queue), worker: Some(worker) }
    }
}

#[async_trait]
impl Session for MemorySession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        let (transport, number, route) = (self.transport.clone(), self.number, route.clone());
        Box::pin(async move { transport.broker().open_route(number, &route) })
    }

    fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        self.transport.broker().slot(route, message)
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let mut broker = self.transport.broker();
        let (Some(number), Some(queue)) = (broker.begin_call(self.number), &self.queue) else { return };
        let due = Instant::now() + broker.delay;
        let _ = queue.send(Call { number, due, messages }); // fails only when the worker is gone, and the session with it
    }

    async fn close(mut self: Box<Self>) {
        self.queue = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.await;
        }
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.transport.broker().dismiss(self.number);
        if let Some(worker) = &self.worker {
            worker.abort();
        }
    }
}

async fn deliver(transport: MemoryTransport, session: u64, mut calls: mpsc::UnboundedReceiver<Call>) {
    while let Some(call) = calls.recv().await {
        sleep_until(call.due).await;
        let mut broker = transport.broker();
        for outgoing in call.messages {
            broker.deliver(session, call.number, outgoing, transport.max_message_bytes);
        }
    }
}
