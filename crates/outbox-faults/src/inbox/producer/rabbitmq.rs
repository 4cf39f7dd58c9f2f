use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::queue_of;
use crate::{
    broker::connect_rabbitmq,
    inbox::stream::{Message, Stream},
    pace::Pace,
};

/// Messages sent and not confirmed, at most.
const WINDOW: usize = 500;
const IDLE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_millis(200);
/// How long the broker may be away, or take to confirm.
const AWAY_LIMIT: Duration = Duration::from_secs(120);
const PERSISTENT: u8 = 2;

/// Declares the queues: durable quorum queues, each with one consumer at a time.
pub(super) async fn prepare(url: &str, queues: &[String]) -> Result<()> {
    let (connection, channel) = connect_rabbitmq(url).await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for queue in queues {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        channel.queue_declare(queue.as_str().into(), options, arguments).await?;
    }
    Ok(connection.close(200, "done".into()).await?)
}

/// Sends everything in its order. After a lost connection it begins with the first message that was not confirmed, so that first
/// copies stay in order.
pub(super) async fn send(url: &str, stream: &Stream, pace: &Pace) -> Result<()> {
    let (mut confirmed, mut since) = (0, Instant::now());
    while confirmed < stream.order.len() {
        let before = confirmed;
        if let Err(error) = session(url, stream, pace, &mut confirmed).await {
            if confirmed > before {
                since = Instant::now();
            }
            if since.elapsed() > AWAY_LIMIT {
                return Err(error).context("RabbitMQ was away for too long");
            }
            xtask::interrupt::check()?;
            tokio::time::sleep(RECONNECT).await;
        }
    }
    Ok(())
}

async fn session(url: &str, stream: &Stream, pace: &Pace, confirmed: &mut usize) -> Result<()> {
    let (connection, channel) = connect_rabbitmq(url).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut open: VecDeque<PublisherConfirm> = VecDeque::new();
    for place in *confirmed..stream.order.len() {
        while (place as u64) >= pace.committed() && !pace.may_write() {
            xtask::interrupt::check()?;
            tokio::time::sleep(IDLE).await;
        }
        open.push_back(publish(&channel, stream.at(place).context("a place without a message")?).await?);
        if place as u64 >= pace.committed() {
            pace.add(1);
        }
        if open.len() >= WINDOW {
            settle(&mut open, confirmed).await?;
        }
    }
    while !open.is_empty() {
        settle(&mut open, confirmed).await?;
    }
    Ok(connection.close(200, "done".into()).await?)
}

/// Waits for the oldest message.
async fn settle(open: &mut VecDeque<PublisherConfirm>, confirmed: &mut usize) -> Result<()> {
    let oldest = open.pop_front().context("nothing is open")?;
    let answer = tokio::time::timeout(AWAY_LIMIT, oldest).await.context("a confirm did not come")??;
    match answer {
        Confirmation::Ack(None) => *confirmed += 1,
        _ => bail!("a message was refused"),
    }
    Ok(())
}

async fn publish(channel: &Channel, message: &Message) -> Result<PublisherConfirm> {
    let body = serde_json::to_vec(&message.body)?;
    let mut headers = FieldTable::default();
    for (name, value) in message.attributes() {
        headers.insert(format!("cloudEvents:{name}").into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    let (exchange, queue) = ("".into(), queue_of(&message.body.key));
    Ok(channel
        .basic_publish(exchange, queue.as_str().into(), BasicPublishOptions::default(), &body, properties)
        .await?)
}
