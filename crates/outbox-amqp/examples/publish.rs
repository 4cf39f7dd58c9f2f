//! How fast messages are handed over and confirmed, beside lapin alone with pipelined confirms:
//! `publish URI [MESSAGES] [classic|quorum] [CHANNELS]`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use outbox_amqp::{AmqpTransport, Plain, Topology};
use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::{Outcome, OutcomeSink, Outcomes, Outgoing, Session, ShardId, Ticket, Transport};
use time::OffsetDateTime;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

const PAYLOAD_BYTES: usize = 300;
/// The relay's defaults.
const BATCH: usize = 2_000;
const WINDOW: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let uri = arguments.next().ok_or("usage: publish URI [MESSAGES] [classic|quorum] [CHANNELS]")?;
    let count: usize = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let kind = arguments.next().unwrap_or_else(|| "classic".to_owned());
    let channels = arguments.next().map_or(Ok(4), |channels| channels.parse())?;

    let queue = format!("publish-{}", Uuid::now_v7());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let observer = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    observer.queue_declare(queue.as_str().into(), durable, arguments).await?;
    let messages: Vec<_> = (0..count).map(|n| Arc::new(message(&queue, n))).collect();
    let ours = |is_plain| {
        let builder = AmqpTransport::builder(&uri).exchange("").routing_key("{aggregate_type}");
        let builder = builder.topology(Topology::Check).channels(channels);
        if is_plain { builder.encoder(Plain).build() } else { builder.build() }
    };
    for round in 1..=3 {
        println!("round {round}: CloudEvents  {}", session(&ours(false)?, &messages).await?);
        observer.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
        println!("round {round}: plain        {}", session(&ours(true)?, &messages).await?);
        observer.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
        println!("round {round}: lapin        {}", raw(&uri, &queue, &messages).await?);
        observer.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
    }
    observer.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

/// Sends as the relay does: batches and a bounded window, the first message alone.
async fn session(transport: &AmqpTransport, messages: &[Arc<Message>]) -> Result<String, Failure> {
    let (sink, mut outcomes) = OutcomeSink::channel();
    let mut session = transport.connect(sink).await?;
    let route = transport.route(&messages[0]).map_err(|reason| reason.to_string())?;
    session.open_route(&route).await.map_err(|outcome| format!("{outcome:?}"))?;
    let (first, rest) = messages.split_at(1);
    let start = Instant::now();
    let mut confirmed = 0;
    let mut sent = send(transport, &mut *session, first, 0).await?;
    while confirmed < sent {
        confirmed += taken(&mut outcomes).await?;
    }
    for batch in rest.chunks(BATCH) {
        sent += send(transport, &mut *session, batch, sent).await?;
        while sent - confirmed > WINDOW - BATCH {
            confirmed += taken(&mut outcomes).await?;
        }
    }
    while confirmed < sent {
        confirmed += taken(&mut outcomes).await?;
    }
    let elapsed = start.elapsed();
    session.close().await;
    Ok(rate(sent, elapsed))
}

async fn send(
    transport: &AmqpTransport,
    session: &mut dyn Session,
    messages: &[Arc<Message>],
    first: usize,
) -> Result<usize, Failure> {
    let outgoing = messages.iter().enumerate().map(|(index, message)| {
        let route = transport.route(message).map_err(|reason| reason.to_string())?;
        let slot = session.slot(&route, message);
        let ticket = Ticket((first + index) as u64);
        Ok(Outgoing { ticket, lane: message.lane(), message: message.clone(), route, slot })
    });
    session.send(outgoing.collect::<Result<_, Failure>>()?).await;
    Ok(messages.len())
}

async fn taken(outcomes: &mut Outcomes) -> Result<usize, Failure> {
    let mut reports = Vec::new();
    outcomes.take(&mut reports).await;
    match reports.iter().find(|(_, outcome)| *outcome != Outcome::Published) {
        Some((_, outcome)) => Err(format!("{outcome:?}").into()),
        None => Ok(reports.len()),
    }
}

/// One channel, mandatory and persistent, as many unconfirmed as the relay's window.
async fn raw(uri: &str, queue: &str, messages: &[Arc<Message>]) -> Result<String, Failure> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let start = Instant::now();
    let mut confirms = FuturesUnordered::new();
    for message in messages {
        if confirms.len() >= WINDOW {
            check(confirms.next().await)?;
        }
        confirms.push(publish(channel.clone(), queue.to_owned(), message.clone()));
        if confirms.len() % BATCH == 0 {
            // lets what was pushed go out
            if let std::task::Poll::Ready(confirmed) = futures_util::poll!(confirms.next()) {
                check(confirmed)?;
            }
        }
    }
    while let Some(confirmed) = confirms.next().await {
        check(Some(confirmed))?;
    }
    let elapsed = start.elapsed();
    connection.close(200, "OK".into()).await?;
    Ok(rate(messages.len(), elapsed))
}

async fn publish(channel: Channel, queue: String, message: Arc<Message>) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let id = message.id.to_string();
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
    let payload = message.payload.as_ref();
    channel.basic_publish("".into(), queue.into(), options, payload, properties).await?.await
}

fn check(confirmed: Option<lapin::Result<Confirmation>>) -> Result<(), Failure> {
    match confirmed {
        Some(Ok(Confirmation::Ack(None))) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn rate(count: usize, elapsed: Duration) -> String {
    format!("{:>8.0} messages/s", count as f64 / elapsed.as_secs_f64())
}

fn message(queue: &str, n: usize) -> Message {
    Message {
        id: Uuid::now_v7(),
        shard: ShardId(0),
        seq: i64::try_from(n).unwrap_or(i64::MAX),
        aggregate_type: queue.to_owned(),
        aggregate_id: Some(format!("key-{n}")),
        event_type: "order.placed".to_owned(),
        payload: Payload::from(vec![b'x'; PAYLOAD_BYTES]),
        content_type: "application/json".to_owned(),
        headers: Headers::default(),
        occurred_at: OffsetDateTime::now_utc(),
        attempts: 0,
    }
}
