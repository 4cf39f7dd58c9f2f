//! RabbitMQ: an exchange of the demo's own, and two quorum queues: one for the inbox, one for the consumer that verifies.

mod consumer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    tcp::OwnedTLSConfig,
    types::{AMQPValue, FieldTable},
};
use outbox::{AmqpSource, AmqpTransport, Transport, amqp::Topology, inbox::ports::Source};

use super::{Broker, Consumer, Tally};
use crate::demo::event::AGGREGATE_TYPE;

/// How long the broker may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Every routing key.
const ALL: &str = "#";

/// A broker with one exchange and two queues behind it, made for the demo.
pub(super) struct RabbitMq {
    url: String,
    ca_pem: Option<String>,
    exchange: String,
    /// Of the consumer that verifies.
    queue: String,
    /// Of the inbox.
    billing: String,
    connection: Connection,
}

impl RabbitMq {
    /// Makes the exchange and the queues: they must be there before the relay publishes.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or refuses.
    pub(super) async fn real(url: &str, ca_pem: Option<&str>, prefix: &str) -> Result<Self> {
        let connection = connect(url, ca_pem, "outbox demo").await?;
        let broker = Self {
            url: url.to_owned(),
            ca_pem: ca_pem.map(str::to_owned),
            exchange: format!("{prefix}events"),
            queue: format!("{prefix}{AGGREGATE_TYPE}"),
            billing: format!("{prefix}billing"),
            connection,
        };
        let channel = broker.channel().await?;
        let exchange = broker.exchange.as_str();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .with_context(|| format!("the broker refuses to make exchange {exchange}"))?;
        for queue in [&broker.queue, &broker.billing] {
            broker.make_queue(&channel, queue).await?;
        }
        Ok(broker)
    }

    async fn make_queue(&self, channel: &Channel, queue: &str) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        if queue == self.billing {
            // The order of an account rests on it, and the source asks for it.
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel
            .queue_declare(queue.into(), durable, arguments)
            .await
            .with_context(|| format!("the broker refuses to make queue {queue}"))?;
        let (exchange, options) = (self.exchange.as_str(), QueueBindOptions::default());
        channel
            .queue_bind(queue.into(), exchange.into(), ALL.into(), options, FieldTable::default())
            .await
            .with_context(|| format!("the broker refuses to bind queue {queue}"))
    }

    async fn channel(&self) -> Result<Channel> {
        self.connection.create_channel().await.context("cannot open a channel")
    }
}

#[async_trait(?Send)]
impl Broker for RabbitMq {
    fn describe(&self) -> String {
        format!("RabbitMQ at {}, queue {}", address(&self.url), self.queue)
    }

    fn transport(&self) -> Result<Arc<dyn Transport>> {
        let mut builder = AmqpTransport::builder(&self.url).exchange(&self.exchange).topology(Topology::Check);
        if let Some(pem) = &self.ca_pem {
            builder = builder.ca_pem(pem.clone());
        }
        Ok(Arc::new(builder.build()?))
    }

    fn source(&self) -> Result<Arc<dyn Source>> {
        let mut builder = AmqpSource::builder(&self.url, [self.billing.as_str()]);
        if let Some(pem) = &self.ca_pem {
            builder = builder.ca_pem(pem.clone());
        }
        Ok(Arc::new(builder.build()?))
    }

    fn billing(&self) -> String {
        self.billing.clone()
    }

    async fn consumer(&self, tally: Arc<Tally>) -> Result<Box<dyn Consumer>> {
        let connection = connect(&self.url, self.ca_pem.as_deref(), "outbox demo consumer").await?;
        Ok(Box::new(consumer::QueueConsumer::start(connection, &self.queue, tally).await?))
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        let channel = self.channel().await?;
        for queue in [&self.queue, &self.billing] {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        channel.exchange_delete(self.exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
        self.connection.close(200, "bye".into()).await?;
        Ok(())
    }
}

async fn connect(url: &str, ca_pem: Option<&str>, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let trusted = OwnedTLSConfig { identity: None, cert_chain: ca_pem.map(str::to_owned) };
    let runtime = lapin::runtime::default_runtime()?;
    let connected = Connection::connect_with_config(url, properties, trusted, runtime);
    match tokio::time::timeout(CONNECT_LIMIT, connected).await {
        Ok(Ok(connection)) => Ok(connection),
        // lapin's text names its cause already
        Ok(Err(error)) => bail!("cannot reach RabbitMQ at {}: {error}", address(url)),
        Err(_) => bail!("cannot reach RabbitMQ at {}: no answer within {CONNECT_LIMIT:?}", address(url)),
    }
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_alone() {
        for url in ["amqp://app:hush@broker:5672/%2f", "amqps://broker:5672", "amqp://app@broker:5672?heartbeat=5"] {
            assert_eq!(address(url), "broker:5672", "{url}");
        }
    }
}
