use async_trait::async_trait;

use super::{Consumer, Incoming, Partition};

/// A broker to receive messages from.
///
/// # Contract
///
/// A source is a description: all I/O happens in a [`Subscription`]. One source may have several subscriptions at once, also of
/// one consumer; they share its partitions as the broker shares them out.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// How this source takes acknowledgements.
    fn acknowledging(&self) -> Acknowledging;

    /// Joins as this consumer. Partitions come later, by [`SourceEvent::Assigned`].
    ///
    /// # Errors
    ///
    /// A [`SourceError`]: [`SourceErrorKind::Unavailable`] when the broker cannot be reached (the engine tries again with backoff),
    /// [`SourceErrorKind::Refused`] when somebody has to act (an unknown queue, a missing permission, no single active consumer
    /// where order was asked for): the inbox ends with it when it happens at its start.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    async fn subscribe(&self, consumer: &Consumer) -> Result<Box<dyn Subscription>, SourceError>;
}

/// One membership: a connection with consumers, from its creation to its end.
///
/// # Contract
///
/// - A partition's messages come between its [`Assigned`](SourceEvent::Assigned) and its `Revoking` or `Lost`, and never outside.
/// - What is not acknowledged when the partition goes away is delivered again, to whoever gets the partition.
/// - Only [`next`](Self::next) waits. The other methods note something and return: they never block and never fail. What is noted reaches the
///   broker without another call (an adapter that needs to wait for the broker does it in a task of its own or within
///   `next`), except that a subscription that is dropped may lose it.
/// - An acknowledgement that gets lost is a redelivery, which the inbox takes for the duplicate that it is.
/// - Calls that name a partition that is not assigned are ignored.
///
/// # Ordering
///
/// Messages of one partition come in the broker's order, with strictly growing positions within an assignment.
///
/// # Cancellation
///
/// Dropping the subscription leaves at once, without acknowledging anything more.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what happens next.
    ///
    /// The engine calls it again at once, unless it got [`SourceEvent::Revoking`]: then it first finishes, acknowledges or gives up
    /// what it has of those partitions, and the next call lets the partitions go, after every acknowledgement made until then.
    ///
    /// # Errors
    ///
    /// A [`SourceError`]: the subscription is over, every partition is lost at once. The engine drops it and subscribes again.
    ///
    /// # Cancellation
    ///
    /// Safe: an event that was not returned is returned by the next call.
    async fn next(&mut self) -> Result<SourceEvent, SourceError>;

    /// The work on this message is committed. With [`Acknowledging::Cumulative`]: on it and on every earlier one of the partition; with
    /// [`Acknowledging::Individual`]: on this one.
    fn acknowledge(&mut self, partition: &Partition, position: i64);

    /// Asks for no more messages of this partition until it is resumed; those that are on their way (at most what the source prefetches) may still come. The
    /// membership stays alive.
    fn pause(&mut self, partition: &Partition);

    /// Takes [`pause`](Self::pause) back.
    fn resume(&mut self, partition: &Partition);

    /// Leaves in order: every acknowledgement made so far reaches the broker, then the partitions are free for others at
    /// once. Messages that were not acknowledged are delivered again.
    ///
    /// # Errors
    ///
    /// A [`SourceError`] when the acknowledgements could not be delivered: their messages come again.
    ///
    /// # Cancellation
    ///
    /// As dropping the subscription.
    async fn close(self: Box<Self>) -> Result<(), SourceError>;
}

/// How a source takes acknowledgements, and what its positions mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledging {
    /// Everything up to a position (Kafka). Positions are the broker's own and outlive connections: the inbox remembers how far it got and
    /// stops visibly when a partition starts below.
    Cumulative,
    /// Each message by itself (AMQP). Positions mean something only within one assignment.
    Individual,
}

/// What a subscription tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// These partitions are this subscription's from now on. Its state of them, if there was one, is a new one.
    Assigned(Vec<Assigned>),
    /// Messages, of any assigned partitions. Not empty. As many as the source's own batch size at most.
    Delivered(Vec<Incoming>),
    /// The broker holds acknowledgements durably: everything up to and including these positions. Only with
    /// [`Acknowledging::Cumulative`]; may be late and may skip positions.
    Acknowledged(Vec<(Partition, i64)>),
    /// These partitions go to another consumer when [`Subscription::next`] is called again; until then acknowledgements still count.
    Revoking(Vec<Partition>),
    /// These partitions are gone: others may work on them already. Acknowledgements no longer count.
    Lost(Vec<Partition>),
}

/// A partition that was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Which one.
    pub partition: Partition,
    /// The position from which messages will come: the first one that nobody has acknowledged, asked for *after* [`Source::subscribe`] was
    /// called (the inbox compares it with what was consumed before that). `None`: not known, or positions
    /// mean nothing ([`Acknowledging::Individual`]).
    pub start: Option<i64>,
}

/// What kind of failure a source met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The broker cannot be reached, or ended the connection: try again.
    Unavailable,
    /// The broker is reachable but does not let this consumer work as it is: somebody has to act.
    Refused,
}

/// A failure of a source. `Display` says what was tried and what to do; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    kind: SourceErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error of a kind with a message (lower-case, no trailing dot, no payload, no secret).
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }
}
