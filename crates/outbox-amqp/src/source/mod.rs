//! Queues that messages are received from, for the inbox.
//!
//! A subscription is a connection with a channel for each queue. It reads what lapin has received when the inbox asks; one task writes
//! acknowledgements.

mod acknowledging;
mod arguments;
mod builder;
mod fault;
mod headers;
mod incoming;
mod joining;
mod line;
mod queue;
mod subscription;
mod tags;

pub use builder::AmqpSourceBuilder;
pub use queue::{DeclaredQueue, Order, Queue, QueueArgument};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{Acknowledging, Consumer, Source, SourceError, Subscription};

use crate::BuildError;
use crate::endpoint::Endpoint;

/// Receives messages from queues of RabbitMQ. Each queue is one partition.
///
/// ```no_run
/// use outbox_amqp::{AmqpSource, DeclaredQueue};
///
/// let queue = DeclaredQueue::new("billing").bind("outbox", "order.#");
/// let source = AmqpSource::builder("amqp://billing:password@rabbit:5672/%2f", [queue]).prefetch(1_000).build()?;
/// # Ok::<(), outbox_amqp::BuildError>(())
/// ```
///
/// A name alone is a queue that exists: `AmqpSource::new(uri, ["billing"])`.
///
/// # Order
///
/// RabbitMQ keeps the order of a queue for one consumer at a time. So a queue must have `x-single-active-consumer` unless
/// [`order`](AmqpSourceBuilder::order) says that none is wanted: subscribing is refused otherwise. Further subscriptions wait, and one of them takes over
/// when the active one goes, with what that one has not acknowledged first.
///
/// RabbitMQ does not tell a consumer that it has become the active one: a queue is assigned with its first message.
///
/// # Redelivery
///
/// What was delivered and not acknowledged comes again when its channel is gone, with [`redelivered`](outbox_core::inbox::Incoming::redelivered), in its old
/// place. Nothing is rejected or given back one by one. A broker that cancels a consumer (its queue was deleted), closes
/// a channel (an acknowledgement took longer than its `consumer_timeout`) or the connection ends the subscription.
///
/// Streams are not supported: they start where a consumer says and not where one has been.
#[derive(Clone)]
pub struct AmqpSource {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    connection_name: String,
    queues: Vec<Queue>,
    order: Order,
    prefetch: u16,
    request_timeout: Duration,
}

impl AmqpSource {
    /// A source of these queues with all defaults, from a broker such as `amqp://user:password@rabbit:5672/%2f` (`amqps` for TLS; the path is the virtual
    /// host, `%2f` is `/`). Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn new<Q: Into<Queue>>(
        uri: impl Into<String>,
        queues: impl IntoIterator<Item = Q>,
    ) -> Result<Self, BuildError> {
        Self::builder(uri, queues).build()
    }

    /// A source with settings of your own.
    pub fn builder<Q: Into<Queue>>(uri: impl Into<String>, queues: impl IntoIterator<Item = Q>) -> AmqpSourceBuilder {
        AmqpSourceBuilder::new(uri.into(), queues.into_iter().map(Into::into).collect())
    }
}

#[async_trait]
impl Source for AmqpSource {
    fn acknowledging(&self) -> Acknowledging {
        Acknowledging::Individual
    }

    async fn subscribe(&self, consumer: &Consumer) -> Result<Box<dyn Subscription>, SourceError> {
        Ok(Box::new(joining::join(&self.shared, consumer).await?))
    }
}

impl fmt::Debug for AmqpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        f.debug_struct("AmqpSource")
            .field("broker", &format_args!("{}", shared.endpoint))
            .field("queues", &shared.queues)
            .finish_non_exhaustive()
    }
}
