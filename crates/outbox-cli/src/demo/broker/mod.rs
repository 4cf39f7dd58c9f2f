//! The demo's broker: what the relay delivers to, and what an independent consumer reads.

mod kafka;
mod rabbitmq;

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use async_trait::async_trait;
use outbox::{Transport, inbox::ports::Source};

use super::{tally::Tally, verify::Recorded};
use crate::broker::BrokerAddress;

pub(super) use kafka::MOCK_MAX_EVENTS;

/// A broker with a place for the demo's events, made for the demo. It stays on the demo's own thread: the in-process broker
/// cannot leave its.
#[async_trait(?Send)]
pub(super) trait Broker {
    /// What to call it.
    fn describe(&self) -> String;

    /// The product's way to it.
    fn transport(&self) -> Result<Arc<dyn Transport>>;

    /// The product's way from it, for an inbox that is called [`billing`](Self::billing).
    fn source(&self) -> Result<Arc<dyn Source>>;

    /// The name of the demo's inbox, unique on this broker.
    fn billing(&self) -> String;

    /// Starts reading everything that arrives, with code of its own.
    async fn consumer(&self, tally: Arc<Tally>) -> Result<Box<dyn Consumer>>;

    /// Removes what was made.
    async fn remove(self: Box<Self>) -> Result<()>;
}

/// An independent consumer: it shares no code with the relay and reads what the broker really has.
#[async_trait]
pub(super) trait Consumer: Send + Sync {
    /// Whether it has given up; [`finish`](Self::finish) then says why.
    fn has_failed(&self) -> bool;

    /// Reads on to the end and returns everything, in the broker's order for each key.
    ///
    /// # Errors
    ///
    /// When the end cannot be reached, when something is no event of the demo, or when the broker no longer has all of it, which
    /// would make the verification worthless.
    ///
    /// # Cancellation
    ///
    /// The reading ends by itself.
    async fn finish(self: Box<Self>) -> Result<Vec<Arrival>>;
}

/// An event as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// What arrived.
    pub(super) event: Recorded,
    /// When.
    pub(super) at: Instant,
}

/// Makes the demo's place on a broker; `None` is a broker in this process. `amqp_ca_pem` is trusted for `amqps://` besides the
/// public authorities; `prefix` is unique to the run.
///
/// # Errors
///
/// When the broker cannot be reached or refuses.
pub(super) async fn open(
    address: Option<&BrokerAddress>,
    amqp_ca_pem: Option<&str>,
    prefix: &str,
) -> Result<Box<dyn Broker>> {
    Ok(match address {
        None => Box::new(kafka::KafkaBroker::in_process()?),
        Some(BrokerAddress::Kafka(brokers)) => Box::new(kafka::KafkaBroker::real(brokers, prefix).await?),
        Some(BrokerAddress::Amqp(url)) => Box::new(rabbitmq::RabbitMq::real(url, amqp_ca_pem, prefix).await?),
    })
}
