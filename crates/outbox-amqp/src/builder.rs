use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::ShortString;
use outbox_core::Message;

use crate::endpoint::{Access, Identity};
use crate::error::at_least;
use crate::publication::Defaults;
use crate::routing::{Choice, DestinationFn, Routing};
use crate::suspects::Suspects;
use crate::template::Template;
use crate::transport::Shared;
use crate::{AmqpTransport, BuildError, CloudEvents, Destination, Encoder, Topology};

/// The exchange that messages go to unless the builder is told.
pub const DEFAULT_EXCHANGE: &str = "outbox";

/// The routing key unless the builder is told.
pub const DEFAULT_ROUTING_KEY: &str = "{aggregate_type}.{event_type}";

/// What CloudEvents name as their source unless the builder is told.
pub const DEFAULT_SOURCE: &str = "/outbox";

/// The largest body unless the builder is told, in bytes: `max_message_size` of RabbitMQ 4 as it comes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What becomes of a message that no queue is bound for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unroutable {
    /// Its route pauses and is tried again with backoff, until a queue is bound. The default: a missing binding is no fault of the message.
    #[default]
    Pause,
    /// The message is a dead letter.
    Reject,
}

/// Builds an [`AmqpTransport`].
#[must_use = "nothing happens before `build`"]
pub struct AmqpTransportBuilder {
    access: Access,
    exchange: String,
    routing_key: String,
    destination: Option<DestinationFn>,
    topology: Topology,
    unroutable: Unroutable,
    source: String,
    encoder: Option<Box<dyn Encoder>>,
    app_id: Option<String>,
    priority: Option<u8>,
    expiration: Option<Duration>,
    max_message_bytes: usize,
    connection_name: String,
    channels: usize,
    request_timeout: Duration,
    stall_timeout: Duration,
    blocked_timeout: Duration,
}

impl AmqpTransportBuilder {
    pub(crate) fn new(uri: String) -> Self {
        Self {
            access: Access::new(uri),
            exchange: DEFAULT_EXCHANGE.to_owned(),
            routing_key: DEFAULT_ROUTING_KEY.to_owned(),
            destination: None,
            topology: Topology::default(),
            unroutable: Unroutable::default(),
            source: DEFAULT_SOURCE.to_owned(),
            encoder: None,
            app_id: None,
            priority: None,
            expiration: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            connection_name: "outbox relay".to_owned(),
            channels: 4,
            request_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            blocked_timeout: Duration::from_secs(15 * 60),
        }
    }

    /// Sets the user and the password instead of those of the URI.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.access.credentials = Some((user.into(), password.into()));
        self
    }

    /// Trusts the certificate authorities of a PEM text for `amqps`, besides the public ones. The broker's certificate and name are always verified.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.access.ca_pem = Some(pem.into());
        self
    }

    /// Shows the broker a client certificate: PEM texts of the certificate chain and of its key.
    pub fn client_identity_pem(mut self, certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        self.access.identity = Some(Identity { certificate_pem: certificate_pem.into(), key_pem: key_pem.into() });
        self
    }

    /// Chooses the exchange by a template with the fields `{aggregate_type}` and `{event_type}`. Empty: the default exchange, where the routing key is the
    /// name of a queue. Default: [`DEFAULT_EXCHANGE`].
    pub fn exchange(mut self, template: impl Into<String>) -> Self {
        self.exchange = template.into();
        self
    }

    /// Chooses the routing key by a template with the same fields. Default: [`DEFAULT_ROUTING_KEY`].
    pub fn routing_key(mut self, template: impl Into<String>) -> Self {
        self.routing_key = template.into();
        self
    }

    /// Chooses exchange and routing key by a function of the message, which must be pure and cheap: it runs for every message. A result with a name of more
    /// than 255 bytes makes the message a dead letter. Replaces both templates.
    pub fn destination_with(mut self, destination: impl Fn(&Message) -> Destination + Send + Sync + 'static) -> Self {
        self.destination = Some(Box::new(destination));
        self
    }

    /// Sets what is declared or checked before publishing. Default: the exchange is declared, durable, of type topic.
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Sets what becomes of a message that no queue is bound for. Default: [`Unroutable::Pause`].
    pub fn unroutable(mut self, policy: Unroutable) -> Self {
        self.unroutable = policy;
        self
    }

    /// Sets the CloudEvents `source`: a URI reference that names the service, such as `/shop/orders`. Default: [`DEFAULT_SOURCE`]. Has no effect
    /// with an [`encoder`](Self::encoder) of your own.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Sets how headers and body are written. Default: [`CloudEvents`] in binary mode.
    pub fn encoder(mut self, encoder: impl Encoder) -> Self {
        self.encoder = Some(Box::new(encoder));
        self
    }

    /// Sets the property `app_id` of messages whose header `amqp-app-id` names none.
    pub fn app_id(mut self, app_id: impl Into<String>) -> Self {
        self.app_id = Some(app_id.into());
        self
    }

    /// Sets the priority of messages whose header `amqp-priority` names none.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets how long a queue keeps messages whose header `amqp-expiration` says nothing. The broker then *drops* them: by default there is none.
    pub fn expiration(mut self, expiration: Duration) -> Self {
        self.expiration = Some(expiration);
        self
    }

    /// Sets the size of the largest body in bytes; a larger one is a dead letter before it is sent. At most `max_message_size` of the broker, which
    /// AMQP does not tell. Default: [`DEFAULT_MAX_MESSAGE_BYTES`].
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the name of the connection that the broker's tools show. Default: `outbox relay`.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// Sets over how many channels the routes are spread, at least 1. Default: 4.
    pub fn channels(mut self, channels: u16) -> Self {
        self.channels = usize::from(channels.max(1));
        self
    }

    /// Sets the heartbeat, in whole seconds: a broker that is silent for twice as long is lost. What the URI says (`?heartbeat=`) goes first. Default: 10 s.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.access.heartbeat = heartbeat;
        self
    }

    /// Sets how long connecting, and asking about an exchange, may take. Default: 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how long a route may confirm nothing of what is in flight before the session is given up and all is sent again. Doubles with each
    /// stall of the same route, up to 5 minutes. Time on a blocked connection does not count. Default: 30 s.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Sets how long the broker may block the connection (a memory or disk alarm) before it is given up. Default: 15 minutes.
    pub fn blocked_timeout(mut self, timeout: Duration) -> Self {
        self.blocked_timeout = timeout;
        self
    }

    /// Checks everything and builds the transport. Connects to nothing.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn build(self) -> Result<AmqpTransport, BuildError> {
        for (field, timeout) in [
            ("request_timeout", self.request_timeout),
            ("stall_timeout", self.stall_timeout),
            ("blocked_timeout", self.blocked_timeout),
            ("expiration", self.expiration.unwrap_or(Duration::MAX)),
        ] {
            at_least(field, timeout, Duration::from_millis(1))?;
        }
        if let Some(millis) = self.expiration.map(|expiration| expiration.as_millis())
            && millis > u128::from(u32::MAX)
        {
            return Err(BuildError::Expiration { millis });
        }
        if self.source.is_empty() && self.encoder.is_none() {
            return Err(BuildError::Source);
        }
        let endpoint = self.access.endpoint()?;
        self.topology.check()?;
        let choice = match self.destination {
            Some(destination) => Choice::Closure(destination),
            None => Choice::Templates {
                exchange: Template::parse("exchange", &self.exchange)?,
                routing_key: Template::parse("routing_key", &self.routing_key)?,
            },
        };
        let app_id = self.app_id.map(|app_id| {
            let bytes = app_id.len();
            ShortString::try_new(app_id).map_err(|_| BuildError::TooLong { field: "app_id", bytes })
        });
        Ok(AmqpTransport {
            shared: Arc::new(Shared {
                endpoint,
                connection_name: self.connection_name,
                routing: Routing::new(choice),
                encoder: self.encoder.unwrap_or_else(|| Box::new(CloudEvents::new(self.source))),
                defaults: Defaults {
                    app_id: app_id.transpose()?,
                    priority: self.priority,
                    expiration: self.expiration,
                },
                topology: self.topology,
                unroutable: self.unroutable,
                max_message_bytes: self.max_message_bytes,
                channels: self.channels,
                request_timeout: self.request_timeout,
                stall_timeout: self.stall_timeout,
                blocked_timeout: self.blocked_timeout,
                stalls: Arc::default(),
                suspects: Suspects::default(),
            }),
        })
    }
}

impl fmt::Debug for AmqpTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the URI holds a password
        f.debug_struct("AmqpTransportBuilder")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
