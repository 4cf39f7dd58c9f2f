use std::sync::Arc;
use std::thread;
use std::time::Duration;

use outbox_core::ports::{Outcome, Reason};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer as _;

use crate::deliveries::Producer;

/// Asks for the number of partitions of a topic, at least 1. Blocks for up to `timeout`.
///
/// # Errors
///
/// [`Outcome::RoutePaused`] when the topic cannot take messages, [`Outcome::SessionLost`] when no broker answers.
pub(crate) fn partitions_of(producer: &Producer, topic: &str, timeout: Duration) -> Result<u32, Outcome> {
    let metadata = producer.client().fetch_metadata(Some(topic), timeout).map_err(|error| {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let text = format!("topic {topic}: no broker told its partitions within {timeout:?}: {code}");
        Outcome::SessionLost(Reason::new(text))
    })?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(paused(topic, "kafka does not know it", "create it"));
    };
    check(found)
}

fn check(topic: &MetadataTopic) -> Result<u32, Outcome> {
    let name = topic.name();
    if let Some(error) = topic.error() {
        let code = RDKafkaErrorCode::from(error);
        let fix = match code {
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                "create the topic, or correct the route that leads to it"
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => "grant the relay's principal Describe and Write on the topic",
            RDKafkaErrorCode::InvalidTopic => "correct the route that leads to it",
            _ => "the relay asks again",
        };
        return Err(paused(name, &code.to_string(), fix));
    }
    let partitions = u32::try_from(topic.partitions().len()).unwrap_or(0);
    if partitions == 0 {
        return Err(paused(name, "it has no partitions yet", "the relay asks again"));
    }
    if topic.partitions().iter().all(|partition| partition.leader() < 0) {
        return Err(paused(name, "no partition has a leader", "bring its brokers back"));
    }
    Ok(partitions)
}

fn paused(topic: &str, fault: &str, fix: &str) -> Outcome {
    Outcome::RoutePaused(Reason::new(format!("topic {topic}: {fault}: {fix}")))
}

/// A client that asks how large the batches of a topic may be, which metadata does not tell.
pub(crate) struct TopicLimits {
    admin: Option<AdminClient<DefaultClientContext>>,
}

impl TopicLimits {
    pub(crate) fn new(admin: AdminClient<DefaultClientContext>) -> Arc<Self> {
        Arc::new(Self { admin: Some(admin) })
    }

    /// The topic's `max.message.bytes`; `None` when the broker does not say (no permission, an old broker): then only the broker refuses.
    pub(crate) async fn max_batch_bytes(&self, topic: &str, timeout: Duration) -> Option<usize> {
        let options = AdminOptions::new().request_timeout(Some(timeout));
        let asked = [ResourceSpecifier::Topic(topic)];
        let limit = match self.admin.as_ref()?.describe_configs(&asked, &options).await {
            Ok(answers) => match answers.into_iter().next() {
                Some(Ok(config)) => Ok(config.get("max.message.bytes").and_then(|entry| entry.value.clone())),
                Some(Err(code)) => Err(KafkaError::AdminOp(code)),
                None => Ok(None),
            },
            Err(error) => Err(error),
        };
        match limit {
            Ok(limit) => limit?.parse().ok(),
            Err(error) => {
                tracing::debug!(topic, %error, "max.message.bytes of the topic is unknown");
                None
            }
        }
    }
}

impl Drop for TopicLimits {
    fn drop(&mut self) {
        // destroying the client waits for its threads, which the async runtime must not
        let admin = self.admin.take();
        if let Err(error) = thread::Builder::new().name("outbox-kafka-end".to_owned()).spawn(move || drop(admin)) {
            tracing::warn!(%error, "no thread to end the kafka client on");
        }
    }
}
