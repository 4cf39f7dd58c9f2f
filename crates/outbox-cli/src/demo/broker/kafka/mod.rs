//! Kafka: in process, or a real one.

mod consumer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use outbox::{KafkaSource, KafkaTransport, Transport, inbox::ports::Source};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    mocking::MockCluster,
    producer::DefaultProducerContext,
};

use super::{Broker, Consumer, Tally};
use crate::demo::event::AGGREGATE_TYPE;

/// Partitions of the in-process broker's topic.
const MOCK_PARTITIONS: i32 = 32;
/// What one partition of the in-process broker keeps before it silently drops its head.
const MOCK_PARTITION_BYTES: u64 = 5 << 20;
const MOCK_PARTITION_RECORDS: u64 = 100_000;
/// More than a record of the demo takes with its key and headers (about 450 bytes).
const RECORD_BYTES: u64 = 1 << 10;
/// The fullest partition holds at most this many times the average: the keys are many and equally frequent.
const UNEVENNESS: u64 = 2;

/// The most events that the in-process broker holds for sure.
pub(in crate::demo) const MOCK_MAX_EVENTS: u64 = {
    let by_bytes = MOCK_PARTITION_BYTES / RECORD_BYTES;
    let a_partition = if by_bytes < MOCK_PARTITION_RECORDS { by_bytes } else { MOCK_PARTITION_RECORDS };
    a_partition * MOCK_PARTITIONS as u64 / UNEVENNESS
};

/// Partitions of a real broker's topic.
const REAL_PARTITIONS: i32 = 12;
const ADMIN_LIMIT: Duration = Duration::from_secs(20);
const TOPIC_LIMIT: Duration = Duration::from_secs(20);
/// How long the last member of the group may take to leave it.
const GROUP_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// What the demo's inbox changes of its source.
const SOURCE: [(&str, &str); 1] = [("fetch.wait.max.ms", "50")];
/// The in-process broker lets the first member of a group wait for 3 s, as Kafka does by default, and the successor of one that has left for the
/// session time-out less 1 s; it forgets a member that waits for longer than the session time-out.
const SOURCE_IN_PROCESS: [(&str, &str); 2] = [("session.timeout.ms", "4000"), ("heartbeat.interval.ms", "500")];

/// A broker with one topic, made for the demo.
pub(super) struct KafkaBroker {
    /// Bootstrap addresses.
    brokers: String,
    topic: Topic,
    kind: Kind,
}

/// The demo's topic.
#[derive(Clone)]
struct Topic {
    /// What stands before the aggregate type in its name.
    prefix: String,
    partitions: i32,
}

impl Topic {
    fn name(&self) -> String {
        format!("{}{AGGREGATE_TYPE}", self.prefix)
    }
}

enum Kind {
    InProcess(#[expect(dead_code, reason = "lives as long as the demo")] MockCluster<'static, DefaultProducerContext>),
    Real(AdminClient<DefaultClientContext>),
}

impl KafkaBroker {
    /// Starts a broker that speaks Kafka's protocol inside of this process.
    ///
    /// # Errors
    ///
    /// When it cannot listen on the loopback interface.
    pub(super) fn in_process() -> Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the in-process broker")?;
        let topic = Topic { prefix: String::new(), partitions: MOCK_PARTITIONS };
        cluster.create_topic(&topic.name(), topic.partitions, 1).context("cannot make the topic")?;
        Ok(Self { brokers: cluster.bootstrap_servers(), topic, kind: Kind::InProcess(cluster) })
    }

    /// Makes a topic on a real broker.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or refuses the topic.
    pub(super) async fn real(brokers: &str, prefix: &str) -> Result<Self> {
        let topic = Topic { prefix: prefix.to_owned(), partitions: REAL_PARTITIONS };
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).create().context("cannot make a Kafka client")?;
        let name = topic.name();
        let new = NewTopic::new(&name, topic.partitions, TopicReplication::Fixed(-1));
        let results = admin
            .create_topics(
                [&new],
                &AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)).request_timeout(Some(ADMIN_LIMIT)),
            )
            .await
            .with_context(|| format!("cannot reach Kafka at {brokers}"))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("the broker refuses to make topic {topic}: {code}"))?;
        }
        let broker = Self { brokers: brokers.to_owned(), topic, kind: Kind::Real(admin) };
        broker.wait_for_topic().await?;
        Ok(broker)
    }

    /// A new topic is known to the brokers a moment after its creation was confirmed.
    async fn wait_for_topic(&self) -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let (topic, partitions) = (self.topic.name(), self.topic.partitions as usize);
        tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + TOPIC_LIMIT;
            while Instant::now() < deadline {
                let metadata =
                    consumer.fetch_metadata(Some(&topic), ADMIN_LIMIT).context("cannot look the topic up")?;
                let ready = |topic: &rdkafka::metadata::MetadataTopic| {
                    topic.partitions().iter().filter(|partition| partition.leader() >= 0).count() == partitions
                };
                if metadata.topics().iter().any(ready) {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            bail!("topic {topic} has no leaders after {} s", TOPIC_LIMIT.as_secs())
        })
        .await?
    }
}

#[async_trait(?Send)]
impl Broker for KafkaBroker {
    fn describe(&self) -> String {
        match self.kind {
            Kind::InProcess(_) => format!("in-process Kafka protocol, {} partitions", self.topic.partitions),
            Kind::Real(_) => format!("Kafka at {}, topic {}", self.brokers, self.topic.name()),
        }
    }

    fn transport(&self) -> Result<Arc<dyn Transport>> {
        let transport = KafkaTransport::builder(&self.brokers)
            .topic_template(format!("{}{{aggregate_type}}", self.topic.prefix))
            // The in-process broker does not answer that question.
            .ask_topic_limits(matches!(self.kind, Kind::Real(_)))
            .build()?;
        Ok(Arc::new(transport))
    }

    fn source(&self) -> Result<Arc<dyn Source>> {
        let own: &[(&str, &str)] = match self.kind {
            Kind::InProcess(_) => &SOURCE_IN_PROCESS,
            Kind::Real(_) => &[],
        };
        let builder = KafkaSource::builder(&self.brokers, [self.topic.name()]);
        let properties = SOURCE.iter().chain(own);
        let builder = properties.fold(builder, |builder, (key, value)| builder.property(*key, *value));
        Ok(Arc::new(builder.build()?))
    }

    fn billing(&self) -> String {
        format!("{}billing", self.topic.prefix)
    }

    async fn consumer(&self, tally: Arc<Tally>) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(consumer::KafkaConsumer::start(&self.brokers, &self.topic, tally)?))
    }

    /// An in-process broker ends with the value.
    async fn remove(self: Box<Self>) -> Result<()> {
        let Kind::Real(admin) = &self.kind else { return Ok(()) };
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)).request_timeout(Some(ADMIN_LIMIT));
        for result in admin.delete_topics(&[&self.topic.name()], &options).await.context("cannot reach Kafka")? {
            result.map_err(|(topic, code)| anyhow::anyhow!("the broker refuses to delete topic {topic}: {code}"))?;
        }
        remove_group(admin, &self.billing()).await
    }
}

/// Removes a consumer group once its last member has left: a killed one leaves in the background.
async fn remove_group(admin: &AdminClient<DefaultClientContext>, group: &str) -> Result<()> {
    let options = AdminOptions::new().request_timeout(Some(ADMIN_LIMIT));
    let deadline = Instant::now() + GROUP_LIMIT;
    loop {
        let results = admin.delete_groups(&[group], &options).await.context("cannot reach Kafka")?;
        match results.into_iter().find_map(Result::err) {
            // An inbox that never got as far as the broker has made none.
            None | Some((_, RDKafkaErrorCode::GroupIdNotFound)) => return Ok(()),
            Some((_, RDKafkaErrorCode::NonEmptyGroup)) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Some((group, code)) => bail!("the broker refuses to delete group {group}: {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: () = assert!(MOCK_MAX_EVENTS >= 50_000, "enough for a demo that is worth watching");

    #[test]
    fn the_in_process_broker_holds_the_most_events_that_the_demo_allows() {
        let fullest = MOCK_MAX_EVENTS * UNEVENNESS / MOCK_PARTITIONS as u64;
        assert!(fullest <= MOCK_PARTITION_RECORDS && fullest * RECORD_BYTES <= MOCK_PARTITION_BYTES);
    }
}
