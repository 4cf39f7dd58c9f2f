//! The Kafka transport of the transactional outbox, on librdkafka.
//!
//! [`KafkaTransport`] implements [`outbox_core::ports::Transport`]. Every message becomes one record:
//!
//! | record | message |
//! |---|---|
//! | topic | the route: a template (default `{aggregate_type}`) or a closure |
//! | key | `aggregate_id` |
//! | value | the payload, untouched |
//! | headers | CloudEvents 1.0 in binary mode ([`CloudEvents`]), or what another [`Encoder`] writes |
//! | partition | Java's murmur2 of the key; records without a key take turns of 64 |
//! | timestamp | the time of the hand-over: `occurred_at` could be older than the topic's retention |
//!
//! # Promise
//!
//! Producers are idempotent with `acks=all`, gapless, and never time a message out; properties that would change this are refused. A session is
//! one producer. It ends, and the relay sends what was not confirmed through a new one, when the producer is fatal, when a message
//! fails with followers of its partition in flight, when a partition confirms nothing for
//! [`stall_timeout`](KafkaTransportBuilder::stall_timeout), or when no broker is connected for 5 s with messages in flight.
//!
//! A message that a *broker* refuses for good always makes a gapless producer fatal. So what can be refused before it is sent is: a
//! session asks each topic for its `max.message.bytes` (`DescribeConfigs`; without that
//! permission only the broker refuses).
//!
//! Partitions that are added to a topic are used from the next session on; each key that moves may be out of order once.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `source` | `KafkaSource`: a consumer group that receives messages for the inbox |
//! | `ssl` | TLS and SASL/SCRAM through the system's OpenSSL |
//! | `zstd` | `compression.type = zstd` |

mod builder;
mod deliveries;
mod driver;
mod encoder;
mod error;
#[cfg(test)]
mod fixtures;
mod murmur2;
mod outcome;
mod properties;
mod record;
mod routes;
mod routing;
mod session;
#[cfg(feature = "source")]
mod source;
mod topic;
mod topic_limits;
mod topics;
mod transport;
mod watchdog;
mod window;

pub use builder::{DEFAULT_SOURCE, KafkaTransportBuilder};
pub use encoder::{CloudEvents, Encoder, Plain};
pub use error::BuildError;
pub use record::RecordHeaders;
#[cfg(feature = "source")]
pub use source::{KafkaSource, KafkaSourceBuilder, StartAt};
pub use transport::KafkaTransport;
