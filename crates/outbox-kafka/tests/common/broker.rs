use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// The Kafka that the environment names.
pub(crate) fn bootstrap() -> String {
    std::env::var("OUTBOX_TEST_KAFKA")
        .expect("OUTBOX_TEST_KAFKA is not set: run `cargo xtask test`, or name a Kafka such as 127.0.0.1:9092")
}

pub(crate) async fn create_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let results = admin(bootstrap).create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    for result in results {
        result.expect("the topic is created");
    }
    super::eventually("the topic has leaders", || async {
        leaders(bootstrap, topic).filter(|it| *it == partitions as usize)
    })
    .await;
}

/// Sets `max.message.bytes` of a topic and waits until the broker says so.
pub(crate) async fn set_max_message_bytes(bootstrap: &str, topic: &str, bytes: usize) {
    let (admin, text) = (admin(bootstrap), bytes.to_string());
    let specifier = ResourceSpecifier::Topic(topic);
    let change = AlterConfig::new(specifier).set("max.message.bytes", &text);
    for result in admin.alter_configs([&change], &AdminOptions::new()).await.expect("an answer") {
        result.expect("the setting is changed");
    }
    super::eventually("the broker knows the new limit", || async {
        let answers = admin.describe_configs([&specifier], &AdminOptions::new()).await.ok()?;
        let config = answers.into_iter().next()?.ok()?;
        (config.get("max.message.bytes")?.value.as_deref() == Some(&*text)).then_some(())
    })
    .await;
}

/// `false`: it cannot be created now, for instance because it is still being deleted.
pub(crate) async fn try_create_topic(bootstrap: &str, topic: &str) -> bool {
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let results = admin(bootstrap).create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    results.into_iter().all(|result| result.is_ok()) && leaders(bootstrap, topic) == Some(1)
}

pub(crate) async fn delete_topic(bootstrap: &str, topic: &str) {
    let results = admin(bootstrap).delete_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
    for result in results {
        result.expect("the topic is deleted");
    }
}

/// Everything in a topic, the records of a partition in their order. Blocks.
pub(crate) fn records(bootstrap: &str, topic: &str) -> Vec<Record> {
    let consumer = consumer(bootstrap);
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).expect("metadata");
    let partitions: Vec<_> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let (mut wanted, mut assignment) = (0, TopicPartitionList::new());
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER).expect("watermarks");
        wanted += usize::try_from(high - low).expect("a count");
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    let deadline = Instant::now() + ANSWER;
    let mut records = Vec::with_capacity(wanted);
    while records.len() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} records of {topic} were read", records.len());
        let Some(read) = consumer.poll(Duration::from_millis(100)) else { continue };
        let read = read.expect("a record");
        let headers = read.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default();
        records.push(Record {
            partition: read.partition(),
            key: read.key().map(<[u8]>::to_vec),
            value: read.payload().expect("a record that is no tombstone").to_vec(),
            headers,
        });
    }
    records
}

fn leaders(bootstrap: &str, topic: &str) -> Option<usize> {
    let metadata = consumer(bootstrap).fetch_metadata(Some(topic), ANSWER).ok()?;
    Some(metadata.topics().first()?.partitions().iter().filter(|partition| partition.leader() >= 0).count())
}

fn header(header: rdkafka::message::Header<'_, &[u8]>) -> (String, String) {
    let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
    (header.key.to_owned(), value.unwrap_or_default())
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client")
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "outbox-tests")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer")
}
