//! What a broker says of how far the consumers are.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{CONSUMER, producer::TOPIC};
use crate::{broker::PARTITIONS, servers::Servers};

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Records of the topic beyond what the group has committed.
pub(super) fn of_kafka(brokers: &str) -> Result<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", CONSUMER)
        .create()
        .context("a client that asks for offsets")?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let committed = consumer.committed_offsets(partitions, REQUEST_LIMIT).context("the group's offsets")?;
    let mut lag = 0;
    for partition in committed.elements() {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition.partition(), REQUEST_LIMIT)?;
        let done = match partition.offset() {
            Offset::Offset(offset) => offset,
            _ => low,
        };
        lag += high - done;
    }
    Ok(lag)
}

/// Messages in the queues, those that were given out and not acknowledged included.
pub(super) fn of_rabbitmq(servers: &Servers, prefix: &str) -> Result<i64> {
    let printed = servers.rabbitmqctl(&["--quiet", "list_queues", "--no-table-headers", "name", "messages"])?;
    let mut lag = 0;
    for line in printed.lines().filter(|line| line.starts_with(prefix)) {
        let count = line.split_whitespace().nth(1).and_then(|count| count.parse::<i64>().ok());
        lag += count.with_context(|| format!("rabbitmqctl said {line:?} of a queue"))?;
    }
    Ok(lag)
}
