//! A consumer group that receives messages for the inbox.
//!
//! One thread serves a subscription: it polls, commits, and answers rebalances, so that nothing that blocks ever runs on a thread of the
//! async runtime. It and the subscription share a mailbox.

mod builder;
mod commits;
mod context;
mod fault;
mod incoming;
mod joining;
mod mailbox;
mod properties;
mod rebalance;
mod starts;
mod subscription;
mod worker;

pub use builder::{KafkaSourceBuilder, StartAt};

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{Acknowledging, Consumer, Source, SourceError, SourceErrorKind, Subscription};

use crate::BuildError;
use crate::transport::Wanted;
use properties::SourceProperties;

/// Receives messages from topics of Kafka, as a member of the consumer group that has the consumer's name.
///
/// ```no_run
/// use outbox_kafka::KafkaSource;
///
/// let source = KafkaSource::new("kafka-1:9092,kafka-2:9092", ["order", "payment"])?;
/// # Ok::<(), outbox_kafka::BuildError>(())
/// ```
///
/// Offsets are committed only as they are acknowledged. Partitions are shared out cooperatively; one that goes to another member goes when the inbox has finished
/// what it works on, and its last acknowledgements are committed. All members of a group must use the strategy `cooperative-sticky`.
///
/// # Where a partition starts
///
/// At the offset that the group has committed; without one where [`start_at`](KafkaSourceBuilder::start_at) says. When the messages from there on were
/// deleted by the topic's retention it starts at the oldest one, with a warning in the log. When the partition ends before that offset (the topic was created anew, or lost
/// its end in an unclean election), it starts at the oldest message too: the inbox compares that with what it
/// remembers, and stops visibly.
#[derive(Clone)]
pub struct KafkaSource {
    shared: Arc<Shared>,
}

struct Shared {
    brokers: String,
    topics: Vec<Arc<str>>,
    properties: SourceProperties,
    start_at: StartAt,
    commit_interval: Duration,
    request_timeout: Duration,
}

impl KafkaSource {
    /// A source of these topics with all defaults, from a list of brokers such as `kafka-1:9092,kafka-2:9092`. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn new<T: Into<String>>(
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Self, BuildError> {
        Self::builder(brokers, topics).build()
    }

    /// A source with settings of your own.
    pub fn builder<T: Into<String>>(
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> KafkaSourceBuilder {
        KafkaSourceBuilder::new(brokers.into(), topics.into_iter().map(Into::into).collect())
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn acknowledging(&self) -> Acknowledging {
        Acknowledging::Cumulative
    }

    async fn subscribe(&self, consumer: &Consumer) -> Result<Box<dyn Subscription>, SourceError> {
        let (shared, consumer) = (self.shared.clone(), consumer.clone());
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let is_wanted = wanted.0.clone();
        let joined = tokio::task::spawn_blocking(move || joining::join(&shared, &consumer, &is_wanted)).await;
        drop(wanted);
        match joined {
            Ok(subscription) => subscription.map(|subscription| -> Box<dyn Subscription> { Box::new(subscription) }),
            Err(error) => {
                let message = "the kafka consumer could not be started";
                Err(SourceError::new(SourceErrorKind::Unavailable, message).with_source(error))
            }
        }
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        f.debug_struct("KafkaSource")
            .field("brokers", &shared.brokers)
            .field("topics", &shared.topics)
            .finish_non_exhaustive()
    }
}
