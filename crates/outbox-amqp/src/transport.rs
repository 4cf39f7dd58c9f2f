use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::Message;
use outbox_core::ports::{LaneOrdering, OutcomeSink, Reason, RouteName, Session, Transport, TransportError};

use crate::endpoint::Endpoint;
use crate::publication::Defaults;
use crate::routing::Routing;
use crate::session::AmqpSession;
use crate::suspects::Suspects;
use crate::watchdog::StallHistory;
use crate::{AmqpTransportBuilder, BuildError, Encoder, Topology, Unroutable, connection};

/// Delivers messages to RabbitMQ.
///
/// ```no_run
/// use outbox_amqp::{AmqpTransport, Declaration, Topology};
///
/// let transport = AmqpTransport::builder("amqp://relay:password@rabbit:5672/%2f")
///     .exchange("shop")
///     .routing_key("{aggregate_type}.{event_type}")
///     .topology(Topology::Declare(Declaration::new().quorum_queue("billing", "order.#")))
///     .source("/shop/orders")
///     .build()?;
/// # Ok::<(), outbox_amqp::BuildError>(())
/// ```
#[derive(Clone)]
pub struct AmqpTransport {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection_name: String,
    pub(crate) routing: Routing,
    pub(crate) encoder: Box<dyn Encoder>,
    pub(crate) defaults: Defaults,
    pub(crate) topology: Topology,
    pub(crate) unroutable: Unroutable,
    pub(crate) max_message_bytes: usize,
    pub(crate) channels: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) blocked_timeout: Duration,
    pub(crate) stalls: Arc<StallHistory>,
    pub(crate) suspects: Suspects,
}

impl AmqpTransport {
    /// A transport with all defaults to a broker such as `amqp://user:password@rabbit:5672/%2f` (`amqps` for TLS; the path is the virtual host,
    /// `%2f` is `/`). Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`BuildError::Uri`] when the URI is malformed.
    pub fn connect(uri: impl Into<String>) -> Result<Self, BuildError> {
        Self::builder(uri).build()
    }

    /// A transport with settings of your own.
    pub fn builder(uri: impl Into<String>) -> AmqpTransportBuilder {
        AmqpTransportBuilder::new(uri.into())
    }
}

#[async_trait]
impl Transport for AmqpTransport {
    fn lane_ordering(&self) -> LaneOrdering {
        LaneOrdering::OneInFlight
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        self.shared.routing.route(message)
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        let shared = self.shared.clone();
        let (connection, wire) =
            connection::open(&shared.endpoint, &shared.connection_name, shared.request_timeout).await?;
        Ok(Box::new(AmqpSession::start(shared, connection, wire, sink)))
    }
}

impl fmt::Debug for AmqpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpTransport")
            .field("broker", &format_args!("{}", self.shared.endpoint))
            .finish_non_exhaustive()
    }
}
