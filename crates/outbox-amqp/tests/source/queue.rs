//! A queue of its own for each test, and somebody who publishes to it.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use outbox_amqp::{AmqpSource, AmqpSourceBuilder};

use crate::common::broker::{arguments, rabbitmqctl, uri};
use crate::common::{eventually, unique};

/// What a forgotten queue lives without a consumer, in milliseconds.
const EXPIRES_MS: i32 = 10 * 60 * 1_000;

pub(crate) struct TestQueue {
    pub(crate) name: String,
    channel: Channel,
    _connection: Connection,
}

impl TestQueue {
    /// A durable quorum queue with a single active consumer.
    pub(crate) async fn quorum() -> Self {
        Self::declare("quorum", true).await
    }

    /// A durable classic queue with a single active consumer.
    pub(crate) async fn classic() -> Self {
        Self::declare("classic", true).await
    }

    /// A queue of a type.
    pub(crate) async fn declare(kind: &str, is_single_active: bool) -> Self {
        let mut pairs =
            vec![("x-queue-type", AMQPValue::LongString(kind.into())), ("x-expires", AMQPValue::LongInt(EXPIRES_MS))];
        if is_single_active {
            pairs.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
        }
        let queue = Self::unmade(&unique("source")).await;
        queue.make(&pairs).await;
        queue
    }

    /// A queue that nobody has declared.
    pub(crate) async fn unmade(name: &str) -> Self {
        let connection = Connection::connect(&uri(), ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { name: name.to_owned(), channel, _connection: connection }
    }

    pub(crate) async fn make(&self, pairs: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(self.name.as_str().into(), options, arguments(pairs)).await.expect("a queue");
    }

    pub(crate) fn source(&self) -> AmqpSource {
        self.builder().build().expect("a source")
    }

    pub(crate) fn builder(&self) -> AmqpSourceBuilder {
        AmqpSource::builder(uri(), [&*self.name])
    }

    /// Publishes messages in order, and waits until the broker has them.
    pub(crate) async fn publish(&self, messages: impl IntoIterator<Item = (BasicProperties, Vec<u8>)>) {
        self.publish_to("", &self.name, messages).await;
    }

    pub(crate) async fn publish_to(
        &self,
        exchange: &str,
        routing_key: &str,
        messages: impl IntoIterator<Item = (BasicProperties, Vec<u8>)>,
    ) {
        let mut confirms = FuturesUnordered::new();
        for (properties, payload) in messages {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let published = self.channel.basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                &payload,
                properties.with_delivery_mode(2),
            );
            confirms.push(published.await.expect("published"));
        }
        while let Some(confirm) = confirms.next().await {
            assert!(confirm.expect("a confirm").is_ack(), "the broker took a message");
        }
    }

    pub(crate) async fn publish_numbers(&self, numbers: std::ops::Range<usize>) {
        self.publish(numbers.map(|number| (BasicProperties::default(), number.to_string().into_bytes()))).await;
    }

    /// Waits until the broker has this many messages that are neither delivered nor acknowledged, and that are delivered.
    pub(crate) async fn until_counted(&self, ready: u64, unacknowledged: u64) {
        let columns = ["messages_ready", "messages_unacknowledged"];
        self.until_listed(&columns, &format!("{ready}\t{unacknowledged}")).await;
    }

    /// Waits until the queue has this many consumers.
    pub(crate) async fn until_consumed_by(&self, consumers: u64) {
        self.until_listed(&["consumers"], &consumers.to_string()).await;
    }

    async fn until_listed(&self, columns: &[&str], expected: &str) {
        let arguments = [&["list_queues", "--silent", "name"], columns].concat();
        eventually(&format!("the broker lists {expected:?} of {columns:?}"), || async {
            let listed = rabbitmqctl(&arguments);
            let line = listed.lines().find_map(|line| line.strip_prefix(&*self.name))?;
            (line.trim() == expected).then_some(())
        })
        .await;
    }

    pub(crate) async fn remove(&self) {
        let deleted = self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await;
        deleted.expect("the queue is deleted");
    }
}

/// Closes the connection of this name, as an operator does.
pub(crate) async fn kill_connection(name: &str) {
    let pid = eventually("the connection is listed", || async {
        let list = rabbitmqctl(&["list_connections", "pid", "client_properties", "--silent"]);
        let line = list.lines().find(|line| line.contains(name))?.to_owned();
        Some(line.split('\t').next()?.to_owned())
    })
    .await;
    rabbitmqctl(&["close_connection", &pid, "for a test"]);
}
