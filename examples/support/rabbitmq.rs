//! The side of RabbitMQ: the queue, and the program that reads it.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use crate::awaited::{Awaited, Received};

/// The exchange that the relay sends to unless it is told otherwise.
const EXCHANGE: &str = "outbox";
const QUEUE: &str = "outbox-example-billing";
/// How long the next message may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the queue: durable, kept by a quorum, and given to one consumer at a time, or the order of a key would be lost there. All
/// events of orders go to this one queue. The binding must be there before the relay sends: until then its messages wait.
pub(crate) async fn make_queue(uri: &str) -> Result<Channel> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, arguments).await?;
    channel
        .queue_bind(QUEUE.into(), EXCHANGE.into(), "order.#".into(), QueueBindOptions::default(), FieldTable::default())
        .await?;
    Ok(channel)
}

/// Reads the queue until everything that is awaited has arrived, and prints each event.
pub(crate) async fn consume(channel: &Channel, mut awaited: Awaited) -> Result<()> {
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(QUEUE.into(), "billing".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    while !awaited.is_empty() {
        let delivery = timeout(LIMIT, deliveries.next()).await.with_context(|| {
            format!("nothing arrived for {} s: does another run of this example read the queue?", LIMIT.as_secs())
        })?;
        let delivery = delivery.context("the broker ended the consumer")??;
        let event = read(&delivery).context("a message of the queue is no event of the outbox")?;
        let what = awaited.arrived(&event)?;
        println!("received {:12} {} ({what})", event.event_type, event.payload);
        // After the event was processed: a crash in between brings it again, with the same id.
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

fn read(delivery: &Delivery) -> Result<Received> {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref().context("it has no headers")?;
    let Some(AMQPValue::LongString(key)) = headers.inner().get("cloudEvents_subject") else {
        anyhow::bail!("it has no cloudEvents_subject");
    };
    Ok(Received {
        id: properties.message_id().as_ref().context("it has no message_id")?.as_str().parse()?,
        order_id: key.to_string(),
        event_type: properties.kind().as_ref().context("it has no type")?.to_string(),
        payload: String::from_utf8(delivery.data.clone())?,
    })
}
