use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use outbox::KafkaTransport;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::unique;

/// Partitions of every topic of the benchmarks.
const PARTITIONS: i32 = 12;
/// The largest record that the topics take: a payload of 1 MiB with its headers.
const MAX_MESSAGE_BYTES: &str = "2097152";
const TIMEOUT: Duration = Duration::from_secs(30);

/// A Kafka cluster, and librdkafka properties for every producer.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// Bootstrap servers.
    pub brokers: String,
    /// Beside the transport's defaults.
    pub properties: Vec<(String, String)>,
}

/// A topic of its own.
#[derive(Debug, Clone)]
pub struct Topic {
    kafka: Kafka,
    name: String,
}

impl Topic {
    /// Creates it.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached or refuses.
    pub async fn create(kafka: &Kafka) -> Result<Self> {
        let name = unique("topic");
        let new =
            NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1)).set("max.message.bytes", MAX_MESSAGE_BYTES);
        let created = admin(&kafka.brokers)?.create_topics([&new], &options()).await.context("creating a topic")?;
        for result in created {
            result.map_err(|(topic, code)| anyhow!("topic {topic} was not created: {code}"))?;
        }
        Ok(Self { kafka: kafka.clone(), name })
    }

    /// One that exists, for a process that was started with its name.
    pub fn existing(kafka: Kafka, name: &str) -> Self {
        Self { kafka, name: name.to_owned() }
    }

    /// Its name, which is the aggregate type of the messages that go there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bootstrap servers.
    pub fn brokers(&self) -> &str {
        &self.kafka.brokers
    }

    /// A transport with its own defaults and the properties asked for.
    ///
    /// # Errors
    ///
    /// A property cannot be used.
    pub fn transport(&self) -> Result<KafkaTransport> {
        self.transport_with(&[])
    }

    /// The same without a wait before a request, for a relay that waits for every batch: it could only lose by it.
    ///
    /// # Errors
    ///
    /// As [`transport`](Self::transport).
    pub fn prompt_transport(&self) -> Result<KafkaTransport> {
        self.transport_with(&[("linger.ms", "0")])
    }

    fn transport_with(&self, properties: &[(&str, &str)]) -> Result<KafkaTransport> {
        let asked = self.kafka.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let builder = KafkaTransport::builder(&self.kafka.brokers);
        let all = properties.iter().copied().chain(asked);
        Ok(all.fold(builder, |builder, (key, value)| builder.property(key, value)).build()?)
    }

    /// Records that it holds, by the broker's own word.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached.
    pub async fn records(&self) -> Result<u64> {
        let (kafka, name) = (self.kafka.brokers.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer =
                ClientConfig::new().set("bootstrap.servers", &kafka).set("group.id", "bench").create()?;
            let mut records = 0;
            for partition in 0..PARTITIONS {
                let (low, high) = consumer.fetch_watermarks(&name, partition, TIMEOUT)?;
                records += u64::try_from(high - low)?;
            }
            Ok(records)
        })
        .await?
    }

    /// Deletes it.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached or refuses.
    pub async fn remove(self) -> Result<()> {
        for result in
            admin(&self.kafka.brokers)?.delete_topics(&[&self.name], &options()).await.context("deleting a topic")?
        {
            result.map_err(|(topic, code)| anyhow!("topic {topic} was not deleted: {code}"))?;
        }
        Ok(())
    }
}

fn admin(kafka: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", kafka).create()?)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}
