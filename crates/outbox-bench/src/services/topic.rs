use std::time::Duration;

use anyhow::{Context, Result, anyhow};
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

/// A topic of its own.
#[derive(Debug, Clone)]
pub struct Topic {
    kafka: String,
    name: String,
}

impl Topic {
    /// Creates it.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached or refuses.
    pub async fn create(kafka: &str) -> Result<Self> {
        let name = unique("topic");
        let new =
            NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1)).set("max.message.bytes", MAX_MESSAGE_BYTES);
        let created = admin(kafka)?.create_topics([&new], &options()).await.context("creating a topic")?;
        for result in created {
            result.map_err(|(topic, code)| anyhow!("topic {topic} was not created: {code}"))?;
        }
        Ok(Self { kafka: kafka.to_owned(), name })
    }

    /// One that exists, for a process that was started with its name.
    pub fn existing(kafka: &str, name: &str) -> Self {
        Self { kafka: kafka.to_owned(), name: name.to_owned() }
    }

    /// Its name, which is the aggregate type of the messages that go there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bootstrap servers.
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// Records that it holds, by the broker's own word.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached.
    pub async fn records(&self) -> Result<u64> {
        let (kafka, name) = (self.kafka.clone(), self.name.clone());
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
        for result in admin(&self.kafka)?.delete_topics(&[&self.name], &options()).await.context("deleting a topic")? {
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
