use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::task::JoinHandle;

use super::{
    Read,
    consumer::{self, Intake},
};
use crate::{
    events::{AGGREGATE_TYPE, STRAY_TYPE},
    options::Unroutable,
};

/// Exchange that the relays publish to.
pub(crate) const EXCHANGE: &str = "fault-run";
/// The one queue, so that the broker's order is one order.
pub(crate) const QUEUE: &str = "fault-run.events";
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing may arrive at the end before the queue is taken as read.
const SILENCE: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A durable quorum queue that refuses what is over its limit, bound to the exchange, with one consumer.
pub(crate) struct Queue {
    url: String,
    intake: Arc<Intake>,
    consuming: JoinHandle<Result<()>>,
}

impl Queue {
    /// Makes exchange and queue, binds it, and begins to consume.
    pub(super) async fn create(url: &str, unroutable: Unroutable) -> Result<Self> {
        let (connection, channel) = connect(url).await?;
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, exchange, FieldTable::default()).await?;
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        channel.queue_declare(QUEUE.into(), durable(false), arguments).await?;
        connection.close(200, "done".into()).await?;
        let intake = Arc::new(Intake::default());
        let consuming = tokio::spawn(consumer::consume(url.to_owned(), intake.clone()));
        let queue = Self { url: url.to_owned(), intake, consuming };
        queue.bind(AGGREGATE_TYPE).await?;
        if unroutable == Unroutable::Pause {
            queue.bind_strays().await?;
        }
        Ok(queue)
    }

    /// Makes the strays routable.
    pub(crate) async fn bind_strays(&self) -> Result<()> {
        self.bind(STRAY_TYPE).await
    }

    /// Makes the strays unroutable.
    pub(crate) async fn unbind_strays(&self) -> Result<()> {
        let (connection, channel) = connect(&self.url).await?;
        let (queue, exchange, pattern) = (QUEUE.into(), EXCHANGE.into(), pattern(STRAY_TYPE).as_str().into());
        channel.queue_unbind(queue, exchange, pattern, FieldTable::default()).await?;
        Ok(connection.close(200, "done".into()).await?)
    }

    /// Lets the consumer take so many messages a second; as many as it can with `None`.
    pub(crate) fn slow_down(&self, messages_per_second: Option<u64>) {
        self.intake.slow_down(messages_per_second);
    }

    /// Waits until the queue is empty and the consumer has received nothing for a while.
    pub(crate) async fn wait_until_empty(&self, limit: Duration) -> Result<()> {
        let since = Instant::now();
        let (connection, channel) = connect(&self.url).await?;
        let mut last = (self.intake.received(), Instant::now());
        while last.1.elapsed() < SILENCE {
            let ready =
                channel.queue_declare(QUEUE.into(), durable(true), FieldTable::default()).await?.message_count();
            let received = self.intake.received();
            if received != last.0 || ready > 0 {
                last = (received, Instant::now());
            }
            if self.consuming.is_finished() {
                bail!("the consumer ended by itself");
            }
            if since.elapsed() > limit {
                bail!("the queue was not empty within {} s", limit.as_secs());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(connection.close(200, "done".into()).await?)
    }

    /// Waits until everything has been consumed, and ends the consumer.
    pub(super) async fn finish(mut self, limit: Duration) -> Result<Read> {
        let emptied = self.wait_until_empty(limit).await;
        self.intake.stop();
        // Its own error says more.
        (&mut self.consuming).await.context("the consumer panicked")??;
        emptied?;
        Ok(self.intake.take())
    }

    async fn bind(&self, aggregate_type: &str) -> Result<()> {
        let (connection, channel) = connect(&self.url).await?;
        let (queue, exchange, pattern) = (QUEUE.into(), EXCHANGE.into(), pattern(aggregate_type).as_str().into());
        channel.queue_bind(queue, exchange, pattern, QueueBindOptions::default(), FieldTable::default()).await?;
        Ok(connection.close(200, "done".into()).await?)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.consuming.abort();
    }
}

/// A connection without any code of the product, and a channel on it.
pub(crate) async fn connect(url: &str) -> Result<(Connection, Channel)> {
    let connecting = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    };
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.context("RabbitMQ does not answer")?
}

/// Routing keys of an aggregate type: the relays make them of the aggregate type and the event type.
fn pattern(aggregate_type: &str) -> String {
    format!("{aggregate_type}.*")
}

fn durable(passive: bool) -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() }
}
