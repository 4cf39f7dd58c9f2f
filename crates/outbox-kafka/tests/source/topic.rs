//! A topic of its own for each test, and somebody who publishes to it.

use std::time::Duration;

use outbox_core::inbox::Consumer;
use outbox_kafka::{KafkaSource, KafkaSourceBuilder};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::common::{broker, unique};

pub(crate) struct Topic {
    pub(crate) name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topic {
    pub(crate) async fn create(partitions: i32) -> Self {
        let name = unique("source");
        let bootstrap = broker::bootstrap();
        broker::create_topic(&bootstrap, &name, partitions, &[]).await;
        Self::of(name, &bootstrap)
    }

    pub(crate) fn of(name: String, bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("message.max.bytes", "20000000");
        Self { name, producer: config.create().expect("a producer") }
    }

    pub(crate) fn source(&self) -> KafkaSource {
        self.builder().build().expect("a source")
    }

    pub(crate) fn builder(&self) -> KafkaSourceBuilder {
        KafkaSource::builder(broker::bootstrap(), [&*self.name]).property("fetch.wait.max.ms", "50")
    }

    pub(crate) fn publish(&self, key: &str, headers: &[(&str, &str)], payload: &[u8]) {
        let mut own = OwnedHeaders::new();
        for (key, value) in headers {
            own = own.insert(Header { key, value: Some(*value) });
        }
        let record = BaseRecord::to(&self.name).key(key).payload(payload).headers(own);
        self.producer.send(record).map_err(|(error, _)| error).expect("room for a record");
    }

    /// Publishes a record without a value, and with a header that has none.
    pub(crate) fn publish_tombstone(&self, key: &str) {
        let headers = OwnedHeaders::new().insert(Header { key: "nothing", value: None::<&str> });
        let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&self.name).key(key).headers(headers);
        self.producer.send(record).map_err(|(error, _)| error).expect("room for a record");
        self.flush();
    }

    /// Publishes numbers, each of one of `keys` keys.
    pub(crate) fn publish_numbers(&self, numbers: std::ops::Range<usize>, keys: usize) {
        for number in numbers {
            self.publish(&format!("key-{}", number % keys), &[], number.to_string().as_bytes());
        }
        self.flush();
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).expect("everything is published");
    }
}

/// The offset that a group has committed.
pub(crate) async fn committed(group: &Consumer, topic: &str, partition: i32) -> Option<i64> {
    let (group, topic) = (group.as_str().to_owned(), topic.to_owned());
    let ask = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker::bootstrap()).set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let answer = consumer.committed_offsets(list, Duration::from_secs(30)).expect("an answer");
        match answer.find_partition(&topic, partition).expect("the partition").offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    };
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

/// Commits an offset of partition 0 for a group without members, as an operator does.
pub(crate) async fn commit(group: &Consumer, topic: &str, offset: i64) {
    let (group, topic) = (group.as_str().to_owned(), topic.to_owned());
    let commit = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker::bootstrap()).set("group.id", group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(offset)).expect("an offset");
        consumer.commit(&list, CommitMode::Sync).expect("the offset is committed");
    };
    tokio::task::spawn_blocking(commit).await.expect("no panic");
}
