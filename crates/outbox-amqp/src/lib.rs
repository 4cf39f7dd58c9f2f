//! The RabbitMQ transport of the transactional outbox, on lapin.

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
pub use topology::{Declaration, ExchangeKind, Topology};
pub use transport::AmqpTransport;
