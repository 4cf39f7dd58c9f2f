//! The RabbitMQ transport of the transactional outbox, on lapin.
//!
//! [`AmqpTransport`] implements [`outbox_core::ports::Transport`].
//!
//! ```no_run
//! use outbox_amqp::{AmqpTransport, Declaration, Topology, Unroutable};
//! use outbox_core::{Relay, Storage};
//!
//! # async fn relay(storage: impl Storage, shutdown: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//! let transport = AmqpTransport::builder("amqps://relay@rabbit.example:5671/shop")
//!     .credentials("relay", std::env::var("RABBITMQ_PASSWORD")?)
//!     .ca_pem(std::fs::read_to_string("ca.pem")?)
//!     .exchange("shop")
//!     .routing_key("{aggregate_type}.{event_type}")
//!     .topology(Topology::Declare(Declaration::new().quorum_queue("billing", "order.#")))
//!     .unroutable(Unroutable::Pause)
//!     .source("/shop/orders")
//!     .build()?;
//! Relay::builder(storage, transport).build()?.run(shutdown).await?;
//! # Ok(()) }
//! ```
//!
//! # A message on the wire
//!
//! | property | value |
//! |---|---|
//! | exchange and routing key | the route: templates (default [`DEFAULT_EXCHANGE`] and [`DEFAULT_ROUTING_KEY`]) or a closure |
//! | body | the payload, untouched |
//! | `headers` | CloudEvents 1.0 in binary mode ([`CloudEvents`]), or what another [`Encoder`] writes |
//! | `delivery_mode` | 2, persistent |
//! | `message_id` | the message's id |
//! | `type` | `event_type` |
//! | `timestamp` | `occurred_at`, in seconds |
//! | `content_type` | the message's |
//! | `content_encoding` | the header `content-encoding` of the message |
//! | `correlation_id` | the header `correlation-id` |
//! | `priority` | the header `amqp-priority` (0 to 255), or [`priority`](AmqpTransportBuilder::priority) |
//! | `expiration` | the header `amqp-expiration` (milliseconds), or [`expiration`](AmqpTransportBuilder::expiration) |
//! | `app_id` | the header `amqp-app-id`, or [`app_id`](AmqpTransportBuilder::app_id) |
//!
//! A header that becomes a property is not among the headers on the wire.
//!
//! # The first run
//!
//! As it comes, the transport declares the durable topic exchange [`DEFAULT_EXCHANGE`] and no queue: which queues there are is the consumers' choice. Until one is
//! bound the route is paused and health says so; nothing is lost, and the relay goes on by itself at the first binding. With
//! [`Declaration::quorum_queue`] the transport declares queues too.
//!
//! # Promise
//!
//! A message is published when the broker has confirmed it *and* did not return it: messages are mandatory and persistent, and returns are matched to their
//! messages exactly. One message a key is unconfirmed at a time, so that a failure never lets its followers overtake.
//!
//! | what happens | outcome |
//! |---|---|
//! | confirmed, not returned | published |
//! | returned: no queue is bound (312) | the route pauses, or the message is a dead letter: [`Unroutable`] |
//! | nack (a full queue with `reject-publish`, a queue out of reach) | an attempt failed, tried again with backoff |
//! | no such exchange (404), no permission (403), another declaration (406) | the route pauses |
//! | routing key over 255 bytes, headers over the frame size, body over [`max_message_bytes`](AmqpTransportBuilder::max_message_bytes), a bad priority or expiration | a dead letter before it is sent |
//! | the broker closes the channel and names no message | each message that was open on it is sent again, one at a time on a channel of its own; one that fails there is a dead letter |
//! | a memory or disk alarm (`connection.blocked`) | nothing is sent, health says why, the connection is kept for [`blocked_timeout`](AmqpTransportBuilder::blocked_timeout) |
//! | no confirm for [`stall_timeout`](AmqpTransportBuilder::stall_timeout), heartbeats missing, connection closed | the session ends; what was not confirmed is sent again through a new one |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `source` | `AmqpSource`: queues that messages are received from, for the inbox |
//!
//! # lapin
//!
//! lapin's own recovery is off: reconnecting, with backoff and one message first, is the relay's. lapin's thread writes nothing to the log, because it would write
//! returned messages with their payload.

mod builder;
mod confirms;
mod connection;
mod destination;
mod driver;
mod encoder;
mod endpoint;
mod error;
mod exchanges;
#[cfg(test)]
mod fixtures;
mod line;
mod publication;
mod quiet;
mod refusal;
mod routes;
mod routing;
mod session;
#[cfg(feature = "source")]
mod source;
mod suspects;
mod template;
mod topology;
mod transport;
mod watchdog;
mod wire;

pub use builder::{
    AmqpTransportBuilder, DEFAULT_EXCHANGE, DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_ROUTING_KEY, DEFAULT_SOURCE, Unroutable,
};
pub use destination::Destination;
pub use encoder::{CloudEvents, Encoder, Plain, StructuredCloudEvents};
pub use error::BuildError;
pub use publication::Publication;
#[cfg(feature = "source")]
pub use source::{AmqpSource, AmqpSourceBuilder, DeclaredQueue, Order, Queue, QueueArgument};
pub use topology::{Declaration, ExchangeKind, Topology};
pub use transport::AmqpTransport;
