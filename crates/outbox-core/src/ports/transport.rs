use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::message::{LaneKey, Message};

/// A broker.
///
/// # Contract
///
/// [`route`](Self::route) is pure: one message always has the same route. All I/O happens in a [`Session`].
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// How messages of one lane may be in flight together.
    fn lane_ordering(&self) -> LaneOrdering;

    /// Where a message goes (a topic, an exchange and routing key). Cheap: it is called for every message.
    ///
    /// # Errors
    ///
    /// The [`Reason`] why this message can go nowhere (an invalid topic name, a size that the broker refuses for sure):
    /// it is rejected.
    fn route(&self, message: &Message) -> Result<RouteName, Reason>;

    /// Opens a session: a fresh producer or connection. Outcomes of messages sent through it go to `sink`.
    ///
    /// # Errors
    ///
    /// A [`TransportError`] when the broker cannot be reached; the relay tries again with backoff.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError>;
}

/// One producer or connection, from its creation to its end.
///
/// # Contract
///
/// - Every message that was passed to [`send`](Self::send) gets at most one outcome through the sink, and exactly one unless the
///   session reports [`Outcome::SessionLost`] or is dropped or closed: the relay then takes all that is open as not delivered
///   (and maybe delivered), and sends it again through a new session.
/// - [`Outcome::Published`] means: the broker has the message durably and has confirmed *this* message.
/// - Dropping a session destroys it at once: nothing that it holds is sent afterwards, as far as this process can help it.
///
/// # Ordering
///
/// Messages of one slot are handed to the broker in the order of `send`. With [`LaneOrdering::Pipelined`], once a message of a slot
/// failed, no message of that slot's lane that was sent later is published by this session unless it was sent after
/// the relay took the report of the failure from the sink. The relay sends the first message of every slot of a session alone, until it
/// is confirmed, because idempotent producers keep that promise only from the second message on.
#[async_trait]
pub trait Session: Send {
    /// Makes a route ready (looks the topic up). Called before the first message of a route in this session, and again
    /// after a pause of the route. The future is independent of the session's borrow, so that a slow look-up of one route
    /// does not hold up the others: sends go on while it runs.
    ///
    /// # Errors
    ///
    /// [`Outcome::RoutePaused`] (unknown topic, no permission) or [`Outcome::SessionLost`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the route as it was.
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>>;

    /// The slot (a partition, a queue) of a message on a route that is open: the unit of in-flight limits. The same key
    /// and route always have the same slot within a session.
    fn slot(&self, route: &RouteName, message: &Message) -> Slot;

    /// Hands messages over, in order. Returns when all are handed over or have an outcome; waits while the producer's queue is full. A
    /// message that is refused locally gets its outcome, and later messages of its lane in the same call are not sent
    /// but get [`Outcome::NotSent`].
    ///
    /// # Cancellation
    ///
    /// When dropped, any part of the messages may have been handed over. The relay drops the session with it.
    async fn send(&mut self, messages: Vec<Outgoing>);

    /// Ends the session after everything sent got its outcome. Dropping it instead abandons what is in flight.
    async fn close(self: Box<Self>);
}

/// How messages of one lane may be in flight together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneOrdering {
    /// A failure stops all later messages of the lane (Kafka, idempotent and gapless): many may be in flight.
    Pipelined,
    /// Each message succeeds or fails by itself (RabbitMQ): at most one unconfirmed message a lane.
    OneInFlight,
}

/// Where messages go: a topic, or an exchange with a routing key. Cheap to clone and to compare.
pub type RouteName = Arc<str>;

/// A partition or queue of a route, as the session numbers them; numbers are unique across routes within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Names a message between `send` and its outcome. Never used twice within a relay's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A message to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// For its outcome.
    pub ticket: Ticket,
    /// The message.
    pub message: Arc<Message>,
    /// Its lane, when it has a key.
    pub lane: Option<LaneKey>,
    /// What [`Transport::route`] said.
    pub route: RouteName,
    /// What [`Session::slot`] said.
    pub slot: Slot,
}

/// Why something failed, for people: no payload, no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(pub Arc<str>);

impl Reason {
    /// A reason.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it and confirmed it.
    Published,
    /// It was not sent because an earlier message of its lane failed in the same session. Burns no attempt.
    NotSent,
    /// It failed in a way that may pass. Burns an attempt.
    Retry(Reason),
    /// The broker refuses this very message for good (too large, header limits): a dead letter.
    Reject(Reason),
    /// A permanent error that names no single message: each message concerned is sent again alone, and only one that fails
    /// alone is rejected. Burns no attempt.
    Quarantine(Reason),
    /// Its route cannot take messages now (unknown topic, no permission, queue full). Burns no attempt.
    RoutePaused(Reason),
    /// The session is of no use any more (connection lost, fatal producer error). Concerns everything that is open, whatever ticket
    /// it comes with. Burns no attempt.
    SessionLost(Reason),
}

/// A broker cannot be reached or refuses the connection.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransportError {
    /// An error with a message (lower-case, no trailing dot, no secret).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Where a session reports outcomes, from any thread. Cheap: one lock and no allocation a message.
///
/// A clone of a sink whose [`Outcomes`] was dropped swallows what it gets: that is what happens to the late reports of
/// an abandoned session.
#[derive(Debug, Clone)]
pub struct OutcomeSink {
    shared: Arc<Shared>,
}

/// The relay's end of an [`OutcomeSink`].
#[derive(Debug)]
pub struct Outcomes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reports: Mutex<Vec<(Ticket, Outcome)>>,
    blocked: Mutex<Blocked>,
    arrived: Notify,
}

/// Whether the broker takes nothing at the moment, and whether the relay has heard of it.
#[derive(Debug, Default)]
struct Blocked {
    reason: Option<Reason>,
    is_news: bool,
}

impl OutcomeSink {
    /// A sink and the end that reads it.
    pub fn channel() -> (Self, Outcomes) {
        let shared = Arc::new(Shared::default());
        (Self { shared: shared.clone() }, Outcomes { shared })
    }

    /// Reports what became of a message.
    pub fn report(&self, ticket: Ticket, outcome: Outcome) {
        let was_empty = {
            let mut reports = self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
            reports.push((ticket, outcome));
            reports.len() == 1
        };
        if was_empty {
            self.shared.arrived.notify_one();
        }
    }

    /// Whether the relay has taken every report so far. A session that finds out about failures beside
    /// [`Session::send`] asks it there: as long as the relay may not know of a lane's failure, what it sends of that
    /// lane is [`Outcome::NotSent`].
    pub fn is_taken(&self) -> bool {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reports that the broker takes nothing at the moment although the session stands (a memory or disk alarm), and why; with
    /// `None`, that it does again. What is in flight keeps its outcome to come, and nothing burns an attempt: the
    /// relay only shows it in its health. A new session starts unblocked.
    pub fn blocked(&self, reason: Option<Reason>) {
        *self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner) = Blocked { reason, is_news: true };
        self.shared.arrived.notify_one();
    }

    /// Reports that the whole session is lost, with no message to name.
    pub fn session_lost(&self, reason: Reason) {
        self.report(Ticket(u64::MAX), Outcome::SessionLost(reason));
    }
}

impl Outcomes {
    /// Swaps the reports that are there into `into`, which must be empty; `false` when there are none.
    pub fn take_now(&mut self, into: &mut Vec<(Ticket, Outcome)>) -> bool {
        let mut reports = self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let any = !reports.is_empty();
        if any {
            std::mem::swap(&mut *reports, into);
        }
        any
    }

    /// Waits for reports and swaps them into `into`, which must be empty; it stays empty when only
    /// [`blocked_news`](Self::blocked_news) came.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is taken before it is returned.
    pub async fn take(&mut self, into: &mut Vec<(Ticket, Outcome)>) {
        while !self.take_now(into) && !self.blocked().is_news {
            self.shared.arrived.notified().await;
        }
    }

    /// What [`OutcomeSink::blocked`] said last, once; `None` when it said nothing since.
    pub fn blocked_news(&mut self) -> Option<Option<Reason>> {
        let mut blocked = self.blocked();
        std::mem::take(&mut blocked.is_news).then(|| blocked.reason.clone())
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_block_wakes_the_relay_and_is_told_once() {
        let (sink, mut outcomes) = OutcomeSink::channel();
        assert_eq!(outcomes.blocked_news(), None);
        sink.blocked(Some(Reason::new("low on memory")));
        let mut reports = Vec::new();
        outcomes.take(&mut reports).await;
        assert_eq!(reports, []);
        assert_eq!(outcomes.blocked_news(), Some(Some(Reason::new("low on memory"))));
        assert_eq!(outcomes.blocked_news(), None);
        sink.blocked(None);
        outcomes.take(&mut reports).await;
        assert_eq!(outcomes.blocked_news(), Some(None));
    }

    #[tokio::test]
    async fn outcomes_come_while_the_broker_blocks() {
        let (sink, mut outcomes) = OutcomeSink::channel();
        sink.blocked(Some(Reason::new("low on memory")));
        sink.report(Ticket(1), Outcome::Published);
        let mut reports = Vec::new();
        outcomes.take(&mut reports).await;
        assert_eq!(reports, [(Ticket(1), Outcome::Published)]);
        assert!(outcomes.blocked_news().is_some());
    }
}
