//! A broker behind one mutex, and a transport to it.

mod broker;
mod fixture;
mod session;

pub use broker::PublishedMessage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::message::Message;
use outbox_core::ports::{LaneOrdering, Outcome, OutcomeSink, Reason, RouteName, Session, Transport, TransportError};

use broker::Broker;
use session::MemorySession;

/// Payload bytes that are published unless [`MemoryTransport::max_message_bytes`] says otherwise: those of Kafka's default.
const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// A transport to a broker in memory. Clones share one broker.
///
/// The topic of a message is its aggregate type. Each topic has four partitions and comes into being when it is first
/// used, unless [`with_declared_topics_only`](Self::with_declared_topics_only). Sessions need a tokio runtime.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    broker: Arc<Mutex<Broker>>,
    ordering: LaneOrdering,
    max_message_bytes: usize,
}

impl MemoryTransport {
    /// A transport to a new broker with no messages, whose lanes may be pipelined.
    pub fn new() -> Self {
        let (ordering, max_message_bytes) = (LaneOrdering::Pipelined, MAX_MESSAGE_BYTES);
        Self { broker: Arc::default(), ordering, max_message_bytes }
    }

    /// Declares another ordering of lanes, so that the relay keeps it.
    pub fn with_lane_ordering(self, ordering: LaneOrdering) -> Self {
        Self { ordering, ..self }
    }

    /// Rejects messages whose payload has more bytes than this.
    pub fn with_max_message_bytes(self, max_message_bytes: usize) -> Self {
        Self { max_message_bytes, ..self }
    }

    /// Pauses routes to topics that nobody declared, from now on, instead of creating them.
    pub fn with_declared_topics_only(self) -> Self {
        self.broker().declared_topics_only = true;
        self
    }

    /// Declares a topic.
    pub fn declare_topic(&self, topic: &str) {
        self.broker().topics.insert(topic.to_owned());
    }

    /// All messages in the order in which they were published.
    pub fn published(&self) -> Vec<PublishedMessage> {
        self.broker().log.clone()
    }

    /// The messages of one topic in the order in which they were published.
    pub fn published_to(&self, topic: &str) -> Vec<PublishedMessage> {
        self.broker().log.iter().filter(|published| published.topic == topic).cloned().collect()
    }

    /// Gives this outcome to the next `count` messages instead of publishing them. [`Outcome::SessionLost`] loses the session.
    pub fn fail_next(&self, count: usize, outcome: Outcome) {
        self.broker().failures.extend(std::iter::repeat_n(outcome, count));
    }

    /// Pauses a topic until [`resume_route`](Self::resume_route).
    pub fn pause_route(&self, topic: &str, reason: impl AsRef<str>) {
        self.broker().paused.insert(topic.to_owned(), Reason::new(reason));
    }

    /// Lets a paused topic go on.
    pub fn resume_route(&self, topic: &str) {
        self.broker().paused.remove(topic);
    }

    /// Confirms messages only after this long, from now on; messages of a session that is gone by then are never published.
    pub fn set_delay(&self, delay: Duration) {
        self.broker().delay = delay;
    }

    /// Loses every session with all that it holds. New ones can be opened.
    pub fn lose_sessions(&self, reason: impl AsRef<str>) {
        self.broker().lose_sessions(&Reason::new(reason));
    }

    /// Stops the broker: every session is lost, and none can be opened until [`start`](Self::start).
    pub fn stop(&self) {
        let mut broker = self.broker();
        broker.is_stopped = true;
        broker.lose_sessions(&Reason::new("the in-memory broker was stopped"));
    }

    /// Starts a stopped broker again. It kept its messages.
    pub fn start(&self) {
        self.broker().is_stopped = false;
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn lane_ordering(&self) -> LaneOrdering {
        self.ordering
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        Ok(RouteName::from(message.aggregate_type.as_str()))
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        let number = self.broker().admit(sink)?;
        Ok(Box::new(MemorySession::new(self.clone(), number)))
    }
}
