use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

use super::{
    Read,
    rabbitmq::{QUEUE, connect},
};
use crate::{events::Body, verify::Record};

/// Messages given out and not acknowledged: what may be delivered again when the broker restarts.
const PREFETCH: u16 = 100;
const RECONNECT: Duration = Duration::from_millis(100);
/// Between two looks at whether the consumer shall end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Name of the CloudEvents source among the headers.
const SOURCE: &str = "cloudEvents_source";

/// What the consumer took in, and how fast it may go on.
///
/// The order that is judged is that of the entries in the queue. A broker that restarts gives out again what was not acknowledged, in its
/// place at the head and marked as redelivered: a marked delivery whose id was there before is the same entry once more and
/// left out; one whose id was not there before never reached this consumer and counts as the entry's first delivery.
#[derive(Debug, Default)]
pub(super) struct Intake {
    taken: Mutex<Taken>,
    /// Wait between two messages in microseconds.
    pause_us: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    read: Read,
    ids: HashSet<Uuid>,
}

impl Intake {
    pub(super) fn slow_down(&self, messages_per_second: Option<u64>) {
        let pause_us = messages_per_second.map_or(0, |rate| 1_000_000 / rate.max(1));
        self.pause_us.store(pause_us, Relaxed);
    }

    /// Deliveries so far.
    pub(super) fn received(&self) -> u64 {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.read.records.len() as u64 + taken.read.redelivered
    }

    /// Lets the consumer end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Everything taken in.
    pub(super) fn take(&self) -> Read {
        std::mem::take(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner).read)
    }

    fn add(&self, mut record: Record, redelivered: bool) {
        let taken = &mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = taken.ids.insert(record.id);
        if redelivered && !is_new {
            taken.read.redelivered += 1;
            return;
        }
        record.offset = i64::try_from(taken.read.records.len()).unwrap_or(i64::MAX);
        taken.read.records.push(record);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    async fn pause(&self) {
        let pause = Duration::from_micros(self.pause_us.load(Relaxed));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Consumes the queue until the end of the run; a lost connection is made again.
///
/// # Errors
///
/// A message that is none of the run's.
pub(super) async fn consume(url: String, intake: std::sync::Arc<Intake>) -> Result<()> {
    while !intake.is_stopped() {
        if let Err(Stop::Foreign(error)) = session(&url, &intake).await {
            return Err(error);
        }
        tokio::time::sleep(RECONNECT).await;
    }
    Ok(())
}

/// Why a session ended.
enum Stop {
    /// The broker is away: part of the run.
    Lost,
    Foreign(anyhow::Error),
}

impl From<lapin::Error> for Stop {
    fn from(_: lapin::Error) -> Self {
        Self::Lost
    }
}

async fn session(url: &str, intake: &Intake) -> Result<(), Stop> {
    let (connection, channel) = connect(url).await.map_err(|_| Stop::Lost)?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel.basic_consume(QUEUE.into(), "verifier".into(), options, arguments).await?;
    while !intake.is_stopped() {
        let Ok(delivery) = tokio::time::timeout(LOOK_INTERVAL, deliveries.next()).await else { continue };
        let delivery = delivery.ok_or(Stop::Lost)??;
        intake.add(parse(&delivery).map_err(Stop::Foreign)?, delivery.redelivered);
        delivery.ack(BasicAckOptions::default()).await?;
        intake.pause().await;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn parse(delivery: &Delivery) -> Result<Record> {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref().context("a message without headers")?;
    let source = headers.inner().get(SOURCE).and_then(text).with_context(|| format!("no header {SOURCE}"))?;
    let id = properties.message_id().as_ref().map(ShortString::as_str).context("a message without an id")?;
    let body: Body = serde_json::from_slice(&delivery.data).context("not an event of the run")?;
    Ok(Record {
        partition: 0,
        offset: 0,
        appended_at_ms: now_ms(),
        source,
        id: Uuid::try_parse(id)?,
        key: body.key,
        n: body.n,
    })
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// RabbitMQ stamps nothing by itself; the queue is kept empty, so that a message is here as soon as it is there.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u128) -> Record {
        let (source, key) = ("/relay".to_owned(), "a".to_owned());
        Record { partition: 0, offset: 0, appended_at_ms: 0, source, id: Uuid::from_u128(id), key, n: 1 }
    }

    #[test]
    fn an_entry_that_is_given_out_again_counts_once_and_a_second_entry_counts_again() {
        let intake = Intake::default();
        intake.add(record(1), false);
        intake.add(record(1), true);
        intake.add(record(1), false);
        intake.add(record(2), true);
        let read = intake.take();
        assert_eq!(read.redelivered, 1);
        let ids: Vec<u128> = read.records.iter().map(|record| record.id.as_u128()).collect();
        assert_eq!(ids, [1, 1, 2]);
        assert_eq!(read.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
