//! The side of Kafka: the topic, and the program that reads it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{BorrowedMessage, Headers},
    types::RDKafkaErrorCode,
};

use crate::awaited::{Awaited, Received};

const PARTITIONS: i32 = 12;
/// How long the next record may take. A new consumer group needs some seconds to find itself.
const LIMIT: Duration = Duration::from_secs(60);

/// Brokers in production do not create topics by themselves, and neither does the relay.
pub(crate) async fn make_topic(brokers: &str, name: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(-1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("the broker refuses to make topic {topic}: {code}"),
        }
    }
    Ok(())
}

/// Reads the topic until everything that is awaited has arrived, and prints each event. Blocks.
pub(crate) fn consume(brokers: &str, topic: &str, mut awaited: Awaited) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "outbox-example-billing")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    while !awaited.is_empty() {
        let record = next(&consumer)?;
        let event = read(&record).context("a record of the topic is no event of the outbox")?;
        let what = awaited.arrived(&event)?;
        println!("received {:12} {} ({what})", event.event_type, event.payload);
        // After the event was processed: a crash in between brings it again, with the same id.
        consumer.commit_message(&record, CommitMode::Sync)?;
    }
    Ok(())
}

fn next(consumer: &BaseConsumer) -> Result<BorrowedMessage<'_>> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(record) = consumer.poll(Duration::from_millis(200)) {
            return Ok(record?);
        }
    }
    bail!("nothing arrived for {} s: does another run of this example read the topic?", LIMIT.as_secs())
}

fn read(record: &BorrowedMessage<'_>) -> Result<Received> {
    let text = |bytes: Option<&[u8]>| Some(std::str::from_utf8(bytes?).ok()?.to_owned());
    let header = |name: &str| {
        let headers = record.headers()?;
        text(headers.iter().find(|header| header.key == name)?.value)
    };
    Ok(Received {
        id: header("ce_id").context("it has no ce_id")?.parse()?,
        order_id: text(record.key()).context("it has no key")?,
        event_type: header("ce_type").context("it has no ce_type")?,
        payload: text(record.payload()).context("it has no payload")?,
    })
}
