//! A RabbitMQ to test against, and what its consumers see.

use std::process::Command;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

/// # Panics
///
/// When no broker is named: `cargo xtask test` starts one.
pub(crate) fn uri() -> String {
    variable("OUTBOX_TEST_AMQP")
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}

/// The URI with another virtual host.
pub(crate) fn with_vhost(uri: &str, vhost: &str) -> String {
    let (start, _) = uri.rsplit_once('/').expect("a virtual host");
    format!("{start}/{vhost}")
}

/// Runs a command of the broker's own tool.
pub(crate) fn rabbitmqctl(arguments: &[&str]) -> String {
    let tool = variable("OUTBOX_TEST_RABBITMQCTL"); // in a container it is several words
    let mut words = tool.split_whitespace();
    let mut command = Command::new(words.next().expect("OUTBOX_TEST_RABBITMQCTL names a program"));
    let output = command.args(words).args(arguments).output().expect("rabbitmqctl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A connection to look at the broker with, beside the transport under test. What it declared is deleted when it is dropped.
pub(crate) struct Observer {
    channel: Channel,
    _connection: Connection,
}

impl Observer {
    pub(crate) async fn connect() -> Self {
        Self::connect_to(&uri()).await
    }

    pub(crate) async fn connect_to(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        Self { channel, _connection: connection }
    }

    /// A topic exchange and a queue of the same name that gets everything from it. Both go with the observer's connection.
    pub(crate) async fn destination(&self, name: &str) {
        self.exchange(name).await;
        self.queue(name, FieldTable::default()).await;
        self.bind(name, name, "#").await;
    }

    pub(crate) async fn exchange(&self, name: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.channel
            .exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default())
            .await
            .expect("an exchange");
    }

    /// An exclusive queue: it goes with the observer's connection.
    pub(crate) async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        self.channel.queue_declare(name.into(), options, arguments).await.expect("a queue");
    }

    pub(crate) async fn bind(&self, queue: &str, exchange: &str, binding_key: &str) {
        let options = QueueBindOptions::default();
        self.channel
            .queue_bind(queue.into(), exchange.into(), binding_key.into(), options, FieldTable::default())
            .await
            .expect("a binding");
    }

    pub(crate) async fn delete_exchange(&self, name: &str) {
        self.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    }

    pub(crate) async fn delete_queue(&self, name: &str) {
        self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }

    /// Takes the next message out of a queue.
    pub(crate) async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(queue.into(), options).await.expect("an answer")
    }

    /// Takes all messages out of a queue.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<BasicGetMessage> {
        let mut all = Vec::new();
        while let Some(message) = self.get(queue).await {
            all.push(message);
        }
        all
    }

    /// The payloads of all messages in a queue, in its order.
    pub(crate) async fn payloads(&self, queue: &str) -> Vec<Vec<u8>> {
        self.drain(queue).await.into_iter().map(|message| message.delivery.data).collect()
    }
}

/// Arguments of a queue, each with a text or a number.
pub(crate) fn arguments(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// The header table of a delivery as text.
pub(crate) fn header(message: &BasicGetMessage, name: &str) -> Option<String> {
    let headers = message.delivery.properties.headers().as_ref()?;
    Some(headers.inner().get(name)?.as_long_string()?.to_string())
}
