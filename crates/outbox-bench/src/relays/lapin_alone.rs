use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
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

/// As many as our relay has in flight by default.
const WINDOW: usize = 10_000;

/// What goes on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipelining {
    /// Nothing: the next message goes at the confirm.
    None,
    /// One message after the other is written to the socket, and confirms are waited for behind them: the usual way.
    Confirms,
    /// No message waits for the one before.
    Everything,
}

/// How fast lapin itself publishes messages that are in memory already: one connection, one channel, the records that our transport sends, mandatory, persistent
/// and confirmed.
///
/// # Errors
///
/// RabbitMQ fails, returns or refuses a message, or holds another number of them than were confirmed.
pub async fn lapin_alone(workload: &Workload, queue: &Queue, pipelining: Pipelining) -> Result<Drained> {
    let messages = workload.messages(queue.name());
    let mut watch = Stopwatch::start();
    let connection = queue.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let published = stream::iter(&messages).map(|message| publish(&channel, queue.name(), message));
    let mut confirmed = match pipelining {
        Pipelining::None => published.then(async |confirm| taken(confirm.await?).await).boxed(),
        Pipelining::Confirms => published.then(async |confirm| Ok(taken(confirm.await?))).try_buffered(WINDOW).boxed(),
        Pipelining::Everything => {
            published.map(async |confirm| taken(confirm.await?).await).buffer_unordered(WINDOW).boxed()
        }
    };
    let mut count = 0;
    while let Some(()) = confirmed.try_next().await? {
        count += 1;
        watch.confirmed(count);
    }
    drop(confirmed);
    let drained = watch.stop(count);
    connection.close(200, "OK".into()).await?;
    queue.holds(count).await?;
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

async fn taken(confirm: PublisherConfirm) -> Result<()> {
    ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message was not taken");
    Ok(())
}
