use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

use super::TOPIC;
use crate::{
    inbox::stream::{Message, Stream},
    pace::Pace,
};

const IDLE: Duration = Duration::from_millis(5);
/// How long the last records may take to be confirmed.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);

/// Counts what was confirmed.
#[derive(Default)]
struct Reports {
    confirmed: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.confirmed } else { &self.failed };
        count.fetch_add(1, Relaxed);
    }
}

/// Sends everything in its order: idempotence keeps it through a restart of the broker.
pub(super) fn send(brokers: &str, stream: &Stream, pace: &Pace) -> Result<()> {
    let producer: ThreadedProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .create_with_context(Reports::default())
        .context("the producer")?;
    for place in 0..stream.order.len() {
        while !pace.may_write() {
            xtask::interrupt::check()?;
            thread::sleep(IDLE);
        }
        send_one(&producer, stream.at(place).context("a place without a message")?)?;
        pace.add(1);
    }
    let begun = Instant::now();
    while producer.context().confirmed.load(Relaxed) < stream.order.len() as u64 {
        let failed = producer.context().failed.load(Relaxed);
        if failed > 0 || begun.elapsed() > FLUSH_LIMIT {
            bail!("{failed} records failed, or some were not confirmed within {} s", FLUSH_LIMIT.as_secs());
        }
        xtask::interrupt::check()?;
        thread::sleep(IDLE);
    }
    Ok(())
}

fn send_one(producer: &ThreadedProducer<Reports>, message: &Message) -> Result<()> {
    let body = serde_json::to_vec(&message.body)?;
    let headers = message.attributes().into_iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
        headers.insert(Header { key: &format!("ce_{name}"), value: Some(value) })
    });
    let mut record = BaseRecord::to(TOPIC).key(&message.body.key).payload(&body).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                xtask::interrupt::check()?;
                thread::sleep(IDLE);
                record = returned;
            }
            Err((error, _)) => return Err(error).context("a record cannot be sent"),
        }
    }
}
