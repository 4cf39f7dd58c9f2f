use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use outbox_core::Message;
use outbox_core::ports::{LaneOrdering, OutcomeSink, Reason, RouteName, Session, Transport, TransportError};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::deliveries::{Deliveries, Producer};
use crate::properties::Properties;
use crate::routing::Routing;
use crate::session::KafkaSession;
use crate::topic_limits::TopicLimits;
use crate::watchdog::{StallHistory, Watchdog};
use crate::{BuildError, Encoder, KafkaTransportBuilder, driver};

/// Delivers messages to Kafka.
///
/// ```no_run
/// use outbox_kafka::KafkaTransport;
///
/// let transport = KafkaTransport::builder("kafka-1:9092,kafka-2:9092")
///     .property("compression.type", "lz4")
///     .topic_template("shop.{aggregate_type}")
///     .source("/shop/orders")
///     .build()?;
/// # Ok::<(), outbox_kafka::BuildError>(())
/// ```
#[derive(Clone)]
pub struct KafkaTransport {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) brokers: String,
    pub(crate) properties: Properties,
    pub(crate) routing: Routing,
    pub(crate) encoder: Box<dyn Encoder>,
    pub(crate) limits: TopicLimits,
    pub(crate) stall_timeout: Duration,
    pub(crate) stalls: Arc<StallHistory>,
    pub(crate) request_timeout: Duration,
    /// Size of the batches of the next producer: a topic that takes less than what is configured lowers it.
    pub(crate) batch_bytes: AtomicUsize,
}

impl KafkaTransport {
    /// A transport with all defaults to a list of brokers such as `kafka-1:9092,kafka-2:9092`. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`BuildError::Brokers`] when the list is malformed.
    pub fn connect(brokers: impl Into<String>) -> Result<Self, BuildError> {
        Self::builder(brokers).build()
    }

    /// A transport with settings of your own.
    pub fn builder(brokers: impl Into<String>) -> KafkaTransportBuilder {
        KafkaTransportBuilder::new(brokers.into())
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    fn lane_ordering(&self) -> LaneOrdering {
        LaneOrdering::Pipelined
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        let bytes = message.payload.as_ref().len() + message.aggregate_id.as_deref().map_or(0, str::len);
        let limit = self.shared.properties.max_message_bytes;
        if bytes > limit {
            let text = format!(
                "the message has {bytes} bytes with its key and message.max.bytes is {limit}: \
                 raise the property and max.message.bytes of the topic, or send a reference"
            );
            return Err(Reason::new(text));
        }
        self.shared.routing.topic(message)
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        let shared = self.shared.clone();
        let wanted = Wanted::default();
        let is_wanted = wanted.0.clone();
        let started = tokio::task::spawn_blocking(move || start(&shared, sink, &is_wanted)).await;
        drop(wanted);
        match started {
            Ok(session) => session.map(|session| -> Box<dyn Session> { Box::new(session) }),
            Err(error) => Err(TransportError::new("the kafka producer could not be started").with_source(error)),
        }
    }
}

impl fmt::Debug for KafkaTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTransport").field("brokers", &self.shared.brokers).finish_non_exhaustive()
    }
}

/// Tells the blocking part of connecting that its future was dropped.
pub(crate) struct Wanted(pub(crate) Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Makes a producer and waits until a broker has answered it.
fn start(shared: &Arc<Shared>, sink: OutcomeSink, is_wanted: &AtomicBool) -> Result<KafkaSession, TransportError> {
    let batch_bytes = shared.batch_bytes.load(Ordering::Relaxed);
    let producer: Producer = shared
        .properties
        .producer(batch_bytes)
        .create_with_context(Deliveries::new(sink))
        .map_err(|error| TransportError::new(creation_fault(&error)))?;
    let producer = Arc::new(producer);
    producer.context().belongs_to(Arc::downgrade(&producer));
    driver::start(producer.clone(), Watchdog::new(shared.stall_timeout, shared.stalls.clone()))
        .map_err(|error| TransportError::new("no thread could be started for the kafka producer").with_source(error))?;
    let session = KafkaSession::new(shared.clone(), producer.clone(), batch_bytes);

    let deadline = Instant::now() + shared.request_timeout;
    while producer.client().fetch_cluster_id(Duration::from_millis(100)).is_none() {
        let error = producer.context().last_error();
        let is_permanent = error.as_ref().is_some_and(|error| error.is_permanent);
        if is_permanent || Instant::now() >= deadline || !is_wanted.load(Ordering::Relaxed) {
            let cause = error.map_or_else(|| "no answer".to_owned(), |error| error.text);
            return Err(TransportError::new(format!(
                "no kafka broker of {} answered within {:?}: {cause}",
                shared.brokers, shared.request_timeout
            )));
        }
    }
    Ok(session)
}

fn creation_fault(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientCreation(fault) => format!("the kafka producer could not be made: {fault}"),
        // its text holds the value, which may be secret
        KafkaError::ClientConfig(_, _, key, _) => format!("the kafka producer could not be made: property {key}"),
        other => format!("the kafka producer could not be made: {other}"),
    }
}
