use std::collections::VecDeque;

use anyhow::{Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use outbox::Message;
use outbox::amqp::DEFAULT_SOURCE;
use outbox::message::CloudEvent;

use super::{Drained, Stopwatch};
use crate::services::Queue;
use crate::workload::Workload;

const PERSISTENT: u8 = 2;

/// How many messages may be unconfirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirms {
    /// As many as our relay has in flight by default.
    Pipelined,
    /// The next message goes at the confirm.
    OneAtATime,
}

/// How fast lapin itself publishes messages that are in memory already: one connection, one channel, the records that our transport sends, mandatory, persistent
/// and confirmed.
///
/// # Errors
///
/// RabbitMQ fails, returns or refuses a message, or holds another number of them than were confirmed.
pub async fn lapin_alone(workload: &Workload, queue: &Queue, confirms: Confirms) -> Result<Drained> {
    let window = match confirms {
        Confirms::Pipelined => 10_000,
        Confirms::OneAtATime => 1,
    };
    let messages = workload.messages(queue.name());
    let mut watch = Stopwatch::start();
    let connection = queue.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut unconfirmed = VecDeque::with_capacity(window);
    let mut confirmed = 0;
    for message in &messages {
        if unconfirmed.len() == window {
            confirmed += next(&mut unconfirmed).await?;
            watch.confirmed(confirmed);
        }
        unconfirmed.push_back(publish(&channel, queue.name(), message).await?);
    }
    while !unconfirmed.is_empty() {
        confirmed += next(&mut unconfirmed).await?;
    }
    let drained = watch.stop(confirmed);
    connection.close(200, "OK".into()).await?;
    queue.holds(confirmed).await?;
    Ok(drained)
}

async fn publish(channel: &Channel, exchange: &str, message: &Message) -> Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let routing_key = format!("{}.{}", message.aggregate_type, message.event_type);
    let (exchange, routing_key) = (ShortString::try_new(exchange)?, ShortString::try_new(routing_key)?);
    Ok(channel.basic_publish(exchange, routing_key, options, &message.payload.0, properties(message)?).await?)
}

/// What our transport writes.
fn properties(message: &Message) -> Result<BasicProperties> {
    let event = CloudEvent::new(message, DEFAULT_SOURCE);
    let mut headers = FieldTable::default();
    let mut header = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    header("cloudEvents_specversion", "1.0");
    header("cloudEvents_id", event.id().as_str());
    header("cloudEvents_source", DEFAULT_SOURCE);
    header("cloudEvents_type", &message.event_type);
    if let Some(time) = event.time() {
        header("cloudEvents_time", time.as_str());
    }
    if let Some(subject) = &message.aggregate_id {
        header("cloudEvents_subject", subject);
    }
    Ok(BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(ShortString::try_new(message.id.to_string())?)
        .with_type(ShortString::try_new(message.event_type.as_str())?)
        .with_timestamp(u64::try_from(message.occurred_at.unix_timestamp())?)
        .with_content_type(ShortString::try_new(message.content_type.as_str())?)
        .with_headers(headers))
}

/// Waits for the oldest confirm.
async fn next(unconfirmed: &mut VecDeque<PublisherConfirm>) -> Result<u64> {
    let Some(confirm) = unconfirmed.pop_front() else { return Ok(0) };
    let confirmation = confirm.await?;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "a message was not taken");
    Ok(1)
}
