use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers},
};
use uuid::Uuid;

use super::{
    super::{Arrival, Consumer},
    Topic,
};
use crate::demo::{event::OrderChanged, tally::Tally, verify::Recorded};

const POLL: Duration = Duration::from_millis(50);
const METADATA_LIMIT: Duration = Duration::from_secs(10);
/// How long the rest may take once the last offsets are known.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// Reads all partitions of a topic from their beginning, on a thread of its own. Partitions are assigned, not shared in a
/// group: nothing has to be negotiated with the broker.
pub(super) struct KafkaConsumer {
    thread: JoinHandle<Result<Vec<Arrival>>>,
    finish: Arc<AtomicBool>,
}

impl KafkaConsumer {
    /// Starts reading.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read.
    pub(super) fn start(brokers: &str, topic: &Topic, tally: Arc<Tally>) -> Result<Self> {
        let (topic, partitions) = (topic.name(), topic.partitions);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", format!("outbox-demo-{}", Uuid::now_v7()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20")
            .set("queued.max.messages.kbytes", "16384")
            .create()
            .context("cannot make the demo's consumer")?;
        let mut assignment = TopicPartitionList::with_capacity(partitions as usize);
        for partition in 0..partitions {
            assignment.add_partition_offset(&topic, partition, Offset::Offset(0))?;
        }
        consumer.assign(&assignment).context("cannot read the demo's topic")?;
        let finish = Arc::new(AtomicBool::new(false));
        let mut reading = Reading {
            consumer,
            topic,
            next: vec![0; partitions as usize],
            known: HashSet::new(),
            arrivals: Vec::new(),
            tally,
        };
        let told = finish.clone();
        let thread = std::thread::Builder::new().name("demo-consumer".to_owned()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                reading.poll()?;
            }
            reading.rest()?;
            Ok(reading.arrivals)
        })?;
        Ok(Self { thread, finish })
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    async fn finish(self: Box<Self>) -> Result<Vec<Arrival>> {
        self.finish.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.thread.join().map_err(|_| anyhow!("the demo's consumer panicked"))?)
            .await
            .context("the demo's consumer cannot be joined")?
    }
}

struct Reading {
    consumer: BaseConsumer,
    topic: String,
    next: Vec<i64>,
    known: HashSet<Uuid>,
    arrivals: Vec<Arrival>,
    tally: Arc<Tally>,
}

impl Reading {
    fn poll(&mut self) -> Result<()> {
        match self.consumer.poll(POLL) {
            None => Ok(()),
            Some(Ok(message)) => {
                let event = parse(&message).with_context(|| {
                    format!("partition {} offset {} holds no event of the demo", message.partition(), message.offset())
                })?;
                let next =
                    self.next.get_mut(message.partition() as usize).context("a partition that was not assigned")?;
                if message.offset() != *next {
                    bail!("partition {} jumps from offset {} to {}", message.partition(), *next, message.offset());
                }
                *next += 1;
                if self.known.insert(event.id) {
                    self.tally.delivered();
                }
                self.arrivals.push(Arrival { event, at: Instant::now() });
                Ok(())
            }
            // The client reconnects by itself; a broker that stays away shows as lost events in the end.
            Some(Err(error)) => {
                tracing::debug!(%error, "the demo's consumer met an error");
                Ok(())
            }
        }
    }

    fn rest(&mut self) -> Result<()> {
        let mut ends = Vec::with_capacity(self.next.len());
        for partition in 0..self.next.len() {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition as i32, METADATA_LIMIT)
                .with_context(|| format!("cannot learn the end of partition {partition}"))?;
            if low > 0 {
                bail!(
                    "the broker has dropped the first {low} records of partition {partition}: run the demo with fewer --events"
                );
            }
            ends.push(high);
        }
        let deadline = Instant::now() + REST_LIMIT;
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) {
            if Instant::now() > deadline {
                bail!("the ends of the partitions were not reached within {} s", REST_LIMIT.as_secs());
            }
            self.poll()?;
        }
        Ok(())
    }
}

fn parse(message: &BorrowedMessage<'_>) -> Result<Recorded> {
    let headers = message.headers().context("it has no headers")?;
    let id = headers
        .iter()
        .find(|header| header.key == "ce_id")
        .and_then(|header| header.value)
        .context("it has no ce_id")?;
    let id = Uuid::try_parse_ascii(id).context("its ce_id is no UUID")?;
    let body: OrderChanged = serde_json::from_slice(message.payload().context("it has no payload")?)?;
    if message.key() != Some(body.order_id.to_string().as_bytes()) {
        bail!("its key is not the order's id");
    }
    Ok(Recorded { id, order_id: body.order_id, version: body.version, cents: body.amount_cents })
}
