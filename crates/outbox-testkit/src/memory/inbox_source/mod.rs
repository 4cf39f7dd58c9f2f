//! A broker behind one mutex that hands partitions out to the members of consumer groups.

mod broker;
mod fixture;
mod subscription;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::inbox::{
    Acknowledging, Consumer, Incoming, IncomingHeaders, Partition, Source, SourceError, SourceErrorKind, Subscription,
};
use tokio::sync::Notify;

use broker::{Broker, MemberId, Turn};
use subscription::MemorySubscription;

/// A source from a broker in memory. Clones share one broker.
///
/// Each stream has the same number of partitions, and each partition belongs to one member of a consumer's group at a time: it is
/// handed over when a member comes or goes. Acknowledgements are durable at once.
#[derive(Debug, Clone)]
pub struct MemorySource {
    shared: Arc<Shared>,
    streams: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Shared {
    broker: Mutex<Broker>,
    /// Rings when something happened. Wakes in the order of waiting, so that simulated runs replay.
    changed: Notify,
    acknowledging: Acknowledging,
    partitions: i32,
}

impl MemorySource {
    /// A source of a new broker, with this many partitions a stream.
    pub fn new(acknowledging: Acknowledging, partitions: i32, streams: &[&str]) -> Self {
        let broker = Mutex::new(Broker::new(acknowledging));
        let shared = Shared { broker, changed: Notify::new(), acknowledging, partitions: partitions.max(1) };
        let source = Self { shared: Arc::new(shared), streams: Vec::new() };
        source.of_streams(streams)
    }

    /// A source of other streams of the same broker.
    pub fn of_streams(&self, streams: &[&str]) -> Self {
        let streams: Vec<Arc<str>> = streams.iter().map(|stream| (*stream).into()).collect();
        self.change(|broker| {
            for partition in streams.iter().flat_map(|stream| self.partitions_of(stream)) {
                broker.create(partition);
            }
        });
        Self { shared: self.shared.clone(), streams }
    }

    /// Publishes a message to the partition of its key; returns where it is. Without a key to partition 0.
    pub fn publish(
        &self,
        stream: &str,
        key: Option<&str>,
        headers: IncomingHeaders,
        payload: &[u8],
    ) -> (Partition, i64) {
        let digest = key.map_or(0, |key| outbox_core::inbox::OrderingKey::of(stream, key.as_bytes()).digest());
        let number = i32::try_from(digest % u64::from(self.shared.partitions.unsigned_abs())).unwrap_or(0);
        let partition = Partition::new(stream, number);
        let incoming = Incoming {
            partition: partition.clone(),
            position: 0,
            key: key.map(|key| key.as_bytes().to_vec().into()),
            headers,
            payload: Some(payload.to_vec().into()),
            timestamp: None,
            redelivered: false,
        };
        let position = self.publish_as(incoming);
        (partition, position)
    }

    /// Publishes a message as it is to its partition; its position is the broker's, and returned.
    pub fn publish_as(&self, incoming: Incoming) -> i64 {
        self.change(|broker| broker.publish(incoming))
    }

    /// Ends every subscription of a consumer with an error; new ones can be made.
    pub fn disconnect(&self, consumer: &Consumer) {
        self.change(|broker| broker.disconnect(consumer));
    }

    /// Takes every partition of a consumer from its owners at once and gives it to the next member, which is the same where there is only one.
    pub fn take_away(&self, consumer: &Consumer) {
        self.change(|broker| broker.take_away(consumer));
    }

    /// Sets how far a consumer has come, as an operator or a re-created topic does: the next message is that at `position`. Only for
    /// partitions that nobody owns, with [`Acknowledging::Cumulative`].
    pub fn reset(&self, consumer: &Consumer, partition: &Partition, position: i64) {
        self.change(|broker| broker.reset(consumer, partition, position));
    }

    /// Messages of the consumer that nobody has acknowledged, over all its partitions.
    pub fn unacknowledged(&self, consumer: &Consumer) -> usize {
        self.broker().unacknowledged(consumer)
    }

    /// Makes subscribing fail with [`SourceErrorKind::Unavailable`], or stops doing so.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.broker().is_unavailable = unavailable;
    }

    fn partitions_of(&self, stream: &Arc<str>) -> impl Iterator<Item = Partition> {
        let stream = stream.clone();
        (0..self.shared.partitions).map(move |number| Partition::new(stream.clone(), number))
    }

    /// What happens next for a member. Others hear of it when partitions were let go by it.
    fn take_turn(&self, consumer: &Consumer, member: MemberId) -> Turn {
        let (turn, let_go) = self.broker().turn(consumer, member);
        if let_go {
            self.shared.changed.notify_waiters();
        }
        turn
    }

    fn change<T>(&self, change: impl FnOnce(&mut Broker) -> T) -> T {
        let value = change(&mut self.broker());
        self.shared.changed.notify_waiters();
        value
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.shared.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for MemorySource {
    fn acknowledging(&self) -> Acknowledging {
        self.shared.acknowledging
    }

    async fn subscribe(&self, consumer: &Consumer) -> Result<Box<dyn Subscription>, SourceError> {
        let partitions: Vec<_> = self.streams.iter().flat_map(|stream| self.partitions_of(stream)).collect();
        let joined = self.change(|broker| broker.join(consumer, &partitions));
        let Some(member) = joined else {
            let message = "the in-memory broker was made unavailable: call set_unavailable(false)";
            return Err(SourceError::new(SourceErrorKind::Unavailable, message));
        };
        Ok(Box::new(MemorySubscription::new(self.clone(), consumer.clone(), member)))
    }
}
