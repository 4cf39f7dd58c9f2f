use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use outbox::AmqpTransport;
use outbox::amqp::Topology;

use super::unique;

/// How long the broker's count may stay behind its confirms.
const COUNT_LIMIT: Duration = Duration::from_secs(10);

/// A topic exchange and a durable quorum queue of the same name that gets everything from it.
#[derive(Debug)]
pub struct Queue {
    uri: String,
    name: String,
    channel: Channel,
    connection: Connection,
}

impl Queue {
    /// Creates both on the broker that a URI names.
    ///
    /// # Errors
    ///
    /// RabbitMQ cannot be reached or refuses.
    pub async fn create(uri: &str) -> Result<Self> {
        let name = unique("queue");
        let connection = connect(uri).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(name.as_str().into(), durable, arguments).await?;
        let options = QueueBindOptions::default();
        let table = FieldTable::default();
        channel.queue_bind(name.as_str().into(), name.as_str().into(), "#".into(), options, table).await?;
        Ok(Self { uri: uri.to_owned(), name, channel, connection })
    }

    /// The name of both.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of its own.
    ///
    /// # Errors
    ///
    /// RabbitMQ cannot be reached.
    pub async fn connect(&self) -> Result<Connection> {
        connect(&self.uri).await
    }

    /// Our transport to it with its defaults.
    ///
    /// # Errors
    ///
    /// The URI cannot be used.
    pub fn transport(&self) -> Result<AmqpTransport> {
        Ok(AmqpTransport::builder(&self.uri).exchange(&self.name).topology(Topology::Check).build()?)
    }

    /// Checks that it holds so many messages, by the broker's own word.
    ///
    /// # Errors
    ///
    /// It holds another number, or RabbitMQ cannot be reached.
    pub async fn holds(&self, messages: u64) -> Result<()> {
        let deadline = Instant::now() + COUNT_LIMIT;
        loop {
            let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
            let state = self.channel.queue_declare(self.name.as_str().into(), passive, FieldTable::default()).await?;
            let held = u64::from(state.message_count());
            if held == messages {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{messages} messages were confirmed and the queue has {held}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes both.
    ///
    /// # Errors
    ///
    /// RabbitMQ cannot be reached or refuses.
    pub async fn remove(self) -> Result<()> {
        self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await?;
        self.channel.exchange_delete(self.name.as_str().into(), ExchangeDeleteOptions::default()).await?;
        Ok(self.connection.close(200, "OK".into()).await?)
    }
}

async fn connect(uri: &str) -> Result<Connection> {
    Ok(Connection::connect(uri, ConnectionProperties::default()).await?)
}
