use std::time::Duration;

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers},
};

use super::{DEADLINE, eventually, on_runtime, service, unique};

const PARTITIONS: i32 = 3;
const POLL: Duration = Duration::from_millis(100);

/// A topic of its own on the test broker, deleted at the end.
pub(crate) struct Topic {
    /// Its name.
    pub(crate) name: String,
    /// The broker's address.
    pub(crate) brokers: String,
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Record {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Topic {
    /// Makes a topic with a unique name.
    pub(crate) fn make() -> Self {
        let topic = Self { name: unique("cli"), brokers: service("OUTBOX_TEST_KAFKA") };
        let new = [NewTopic::new(&topic.name, PARTITIONS, TopicReplication::Fixed(1))];
        let made = on_runtime(async { topic.admin().create_topics(&new, &AdminOptions::new()).await });
        for result in made.expect("Kafka answers") {
            result.expect("the topic can be made");
        }
        topic
    }

    /// Waits until the topic holds this many records, and returns them in the order of each partition.
    pub(crate) fn records(&self, count: usize) -> Vec<Record> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.name)
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer can be made");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&assignment).expect("the topic can be read");
        let mut records = Vec::new();
        eventually(&format!("{count} records in the topic"), || {
            while let Some(Ok(message)) = consumer.poll(POLL) {
                records.push(record(&message));
            }
            (records.len() >= count).then(|| std::mem::take(&mut records))
        })
    }

    /// The values of one key, in the broker's order, once the topic holds `count` records.
    pub(crate) fn values_of(&self, key: &str, count: usize) -> Vec<String> {
        let records = self.records(count).into_iter().filter(|record| record.key.as_deref() == Some(key));
        records.map(|record| record.value).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("an admin client can be made")
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = on_runtime(async { self.admin().delete_topics(&[&self.name], &AdminOptions::new()).await });
    }
}

/// Whether the test broker has this consumer group.
pub(crate) fn group_exists(name: &str) -> bool {
    let brokers = service("OUTBOX_TEST_KAFKA");
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a client can be made");
    let groups = client.fetch_group_list(None, DEADLINE).expect("Kafka answers");
    groups.groups().iter().any(|group| group.name() == name)
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default())).collect()
    });
    Record {
        key: message.key().map(text),
        value: message.payload().map(text).unwrap_or_default(),
        headers: headers.unwrap_or_default(),
    }
}
