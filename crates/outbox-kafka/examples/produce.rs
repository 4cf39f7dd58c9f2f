//! How fast messages are handed over and confirmed, beside librdkafka alone:
//! `produce BROKERS [MESSAGES] [KEY=VALUE …]`, with librdkafka properties.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::{Outcome, OutcomeSink, Outcomes, Outgoing, Session, ShardId, Ticket, Transport};
use outbox_kafka::{KafkaTransport, Plain};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use time::OffsetDateTime;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

const PAYLOAD_BYTES: usize = 300;
const KEYS: usize = 10_000;
const PARTITIONS: i32 = 12;
/// The relay's defaults.
const BATCH: usize = 2_000;
const WINDOW: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let brokers = arguments.next().ok_or("usage: produce BROKERS [MESSAGES] [KEY=VALUE …]")?;
    let mut count = 200_000;
    let mut properties = Vec::new();
    for argument in arguments {
        match argument.split_once('=') {
            Some((key, value)) => properties.push((key.to_owned(), value.to_owned())),
            None => count = argument.parse()?,
        }
    }
    let topic = format!("produce-{}", Uuid::now_v7());
    create(&brokers, &topic).await?;
    let messages: Vec<_> = (0..count).map(|n| Arc::new(message(&topic, n))).collect();

    for round in 1..=3 {
        let cloud_events = build(&brokers, &properties, false)?;
        let plain = build(&brokers, &properties, true)?;
        println!("round {round}: CloudEvents  {}", session(&cloud_events, &messages).await?);
        println!("round {round}: plain        {}", session(&plain, &messages).await?);
        println!("round {round}: librdkafka   {}", raw(&brokers, &properties, &topic, count)?);
    }
    Ok(())
}

fn build(brokers: &str, properties: &[(String, String)], plain: bool) -> Result<KafkaTransport, Failure> {
    let mut builder = KafkaTransport::builder(brokers);
    if plain {
        builder = builder.encoder(Plain);
    }
    for (key, value) in properties {
        builder = builder.property(key, value);
    }
    Ok(builder.build()?)
}

/// Sends as the relay does: batches, a bounded window, the first message of each partition alone.
async fn session(transport: &KafkaTransport, messages: &[Arc<Message>]) -> Result<String, Failure> {
    let (sink, mut outcomes) = OutcomeSink::channel();
    let mut session = transport.connect(sink).await?;
    let route = transport.route(&messages[0]).map_err(|reason| reason.to_string())?;
    session.open_route(&route).await.map_err(|outcome| format!("{outcome:?}"))?;
    let outgoing = |session: &dyn Session, index: usize| -> Result<Outgoing, Failure> {
        let message = messages[index].clone();
        let route = transport.route(&message).map_err(|reason| reason.to_string())?;
        let slot = session.slot(&route, &message);
        Ok(Outgoing { ticket: Ticket(index as u64), lane: message.lane(), message, route, slot })
    };
    let mut reports = Vec::new();
    let mut confirmed = 0;
    for index in 0..100 {
        let first = outgoing(&*session, index)?;
        session.send(vec![first]).await;
        confirmed += take(&mut outcomes, &mut reports).await?;
    }
    let (start, mut in_send) = (Instant::now(), Duration::ZERO);
    for batch in (100..messages.len()).collect::<Vec<_>>().chunks(BATCH) {
        while batch[0] - confirmed > WINDOW - BATCH {
            confirmed += take(&mut outcomes, &mut reports).await?;
        }
        let sending = Instant::now();
        let batch = batch.iter().map(|index| outgoing(&*session, *index)).collect::<Result<Vec<_>, _>>()?;
        session.send(batch).await;
        in_send += sending.elapsed();
    }
    while confirmed < messages.len() {
        confirmed += take(&mut outcomes, &mut reports).await?;
    }
    let rates = rates(messages.len() - 100, in_send, start.elapsed());
    session.close().await;
    Ok(rates)
}

async fn take(outcomes: &mut Outcomes, reports: &mut Vec<(Ticket, Outcome)>) -> Result<usize, Failure> {
    outcomes.take(reports).await;
    if let Some((_, outcome)) = reports.iter().find(|(_, outcome)| *outcome != Outcome::Published) {
        return Err(format!("a message was not published: {outcome:?}").into());
    }
    let taken = reports.len();
    reports.clear();
    Ok(taken)
}

/// The same records without headers, as fast as librdkafka's queue takes them.
fn raw(brokers: &str, properties: &[(String, String)], topic: &str, count: usize) -> Result<String, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "0");
    for (key, value) in properties {
        config.set(key, value);
    }
    let producer = ThreadedProducer::<DefaultProducerContext>::from_config(&config)?;
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let (start, mut waited) = (Instant::now(), Duration::ZERO);
    for n in 0..count {
        let key = (n % KEYS).to_string();
        let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    std::thread::sleep(Duration::from_millis(1));
                    waited += Duration::from_millis(1);
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    let in_send = start.elapsed().saturating_sub(waited);
    producer.flush(Duration::from_secs(60))?;
    Ok(rates(count, in_send, start.elapsed()))
}

fn rates(count: usize, in_send: Duration, total: Duration) -> String {
    let rate = |time: Duration| (count as f64 / time.as_secs_f64()) as u64;
    format!("handed over {:>9}/s   confirmed {:>9}/s", rate(in_send), rate(total))
}

fn message(topic: &str, n: usize) -> Message {
    Message {
        id: Uuid::now_v7(),
        shard: ShardId(0),
        seq: n as i64 + 1,
        aggregate_type: topic.to_owned(),
        aggregate_id: Some((n % KEYS).to_string()),
        event_type: "order.placed".to_owned(),
        payload: Payload(Bytes::from(vec![b'x'; PAYLOAD_BYTES])),
        content_type: "application/json".to_owned(),
        headers: Headers::default(),
        occurred_at: OffsetDateTime::now_utc(),
        attempts: 0,
    }
}

async fn create(brokers: &str, topic: &str) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    for result in admin.create_topics([&new], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| format!("topic {topic} was not created: {code}"))?;
    }
    Ok(())
}
