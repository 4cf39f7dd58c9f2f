use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers as _},
};
use uuid::Uuid;

use crate::{events::Body, verify::Record};

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 8;
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Creates the topic. Its records carry the time at which the *broker* appended them.
pub(crate) async fn create(brokers: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new =
        NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT));
    for result in admin.create_topics(&[new], &options).await? {
        result.map_err(|(topic, code)| anyhow!("topic {topic} cannot be created: {code}"))?;
    }
    Ok(())
}

/// Every record of the topic, in the order of each partition. Fails when the beginning of a partition is gone or its end is not
/// reached within `limit`.
pub(super) fn read_all(brokers: &str, topic: &str, limit: Duration) -> Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "fault-run-verifier")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()
        .context("the verifier's consumer")?;
    let mut ends = Vec::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, REQUEST_LIMIT)
            .with_context(|| format!("the end of partition {partition}"))?;
        if low != 0 {
            bail!("the broker has dropped the first {low} records of partition {partition}");
        }
        ends.push(high);
        assignment.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&assignment)?;
    let mut next = vec![0; ends.len()];
    let mut records = Vec::new();
    let begun = Instant::now();
    while next != ends {
        if begun.elapsed() > limit {
            bail!("the ends of the partitions were not reached within {} s", limit.as_secs());
        }
        xtask::interrupt::check()?;
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message.context("the verifier cannot read")?;
        let record = parse(&message)
            .with_context(|| format!("partition {} offset {}", message.partition(), message.offset()))?;
        let next = next.get_mut(usize::try_from(record.partition)?).context("an unknown partition")?;
        if record.offset != *next {
            bail!("partition {} jumps from offset {next} to {}", record.partition, record.offset);
        }
        *next += 1;
        records.push(record);
    }
    Ok(records)
}

fn parse(message: &BorrowedMessage<'_>) -> Result<Record> {
    let header = |name: &str| {
        let headers = message.headers().context("no headers")?;
        let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
        Ok::<_, anyhow::Error>(std::str::from_utf8(found.with_context(|| format!("no header {name}"))?)?.to_owned())
    };
    let body: Body =
        serde_json::from_slice(message.payload().context("no payload")?).context("not an event of the run")?;
    let key = std::str::from_utf8(message.key().context("no key")?)?;
    if key != body.key {
        bail!("the record's key is not the event's");
    }
    Ok(Record {
        partition: message.partition(),
        offset: message.offset(),
        appended_at_ms: message.timestamp().to_millis().context("no time")?,
        source: header("ce_source")?,
        id: Uuid::try_parse(&header("ce_id")?)?,
        key: body.key,
        n: body.n,
    })
}
