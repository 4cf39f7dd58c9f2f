use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use super::{eventually, on_runtime, service, unique};

/// A durable topic exchange of its own on the test broker with a quorum queue behind it, deleted at the end.
pub(crate) struct Exchange {
    /// Its name, and the queue's.
    pub(crate) name: String,
    /// The broker's URL.
    pub(crate) url: String,
}

/// A message as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) routing_key: String,
    pub(crate) id: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) body: String,
}

impl Exchange {
    /// Makes an exchange, and a queue that gets what this key matches.
    pub(crate) fn bound(binding_key: &str) -> Self {
        let exchange = Self::named(&unique("cli"));
        exchange.declare();
        exchange.bind(binding_key);
        exchange
    }

    /// One that does not exist yet.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), url: service("OUTBOX_TEST_AMQP") }
    }

    /// Makes the exchange.
    pub(crate) fn declare(&self) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        self.on_channel(async |channel| {
            channel.exchange_declare(self.name(), ExchangeKind::Topic, options, FieldTable::default()).await
        });
    }

    /// Makes the queue, and lets the exchange send it what this key matches.
    pub(crate) fn bind(&self, binding_key: &str) {
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.on_channel(async |channel| {
            channel.queue_declare(self.name(), options, quorum).await?;
            let binding = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(self.name(), self.name(), binding_key.into(), binding.0, binding.1).await
        });
    }

    /// Waits until this many messages have come, and returns them in the queue's order.
    pub(crate) fn messages(&self, count: usize) -> Vec<Delivered> {
        let mut messages = Vec::new();
        eventually(&format!("{count} messages in the queue"), || {
            self.on_channel(async |channel| {
                let taken = BasicGetOptions { no_ack: true };
                while let Some(message) = channel.basic_get(self.name(), taken).await? {
                    messages.push(delivered(&message.delivery));
                }
                Ok(())
            });
            (messages.len() >= count).then(|| std::mem::take(&mut messages))
        })
    }

    fn name(&self) -> lapin::types::ShortString {
        self.name.as_str().into()
    }

    fn on_channel<T>(&self, action: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> T {
        on_runtime(async {
            let connection = connect(&self.url).await;
            let channel = connection.create_channel().await.expect("a channel");
            let done = action(&channel).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            connection.close(200, "bye".into()).await.expect("the connection closes");
            done
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.on_channel(async |channel| {
            channel.queue_delete(self.name(), QueueDeleteOptions::default()).await?;
            channel.exchange_delete(self.name(), ExchangeDeleteOptions::default()).await
        });
    }
}

/// Whether the test broker has this exchange.
pub(crate) fn exchange_exists(name: &str) -> bool {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    found(async |channel| {
        channel.exchange_declare(name.into(), ExchangeKind::Topic, passive, FieldTable::default()).await
    })
}

/// Whether the test broker has this queue.
pub(crate) fn queue_exists(name: &str) -> bool {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    found(async |channel| channel.queue_declare(name.into(), passive, FieldTable::default()).await)
}

/// Whether the broker finds what is asked for; a 404 closes the channel.
fn found<T>(ask: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> bool {
    on_runtime(async {
        let connection = connect(&service("OUTBOX_TEST_AMQP")).await;
        let channel = connection.create_channel().await.expect("a channel");
        match ask(&channel).await {
            Ok(_) => true,
            Err(error) if error.to_string().contains("NOT_FOUND") => false,
            Err(error) => panic!("RabbitMQ does not answer: {error}"),
        }
    })
}

fn delivered(delivery: &lapin::message::Delivery) -> Delivered {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let subject = headers.and_then(|headers| match headers.inner().get("cloudEvents_subject") {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    });
    Delivered {
        routing_key: delivery.routing_key.to_string(),
        id: properties.message_id().as_ref().map(ToString::to_string),
        subject,
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
    }
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ answers")
}
