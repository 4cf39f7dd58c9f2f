use std::time::Duration;

use outbox_core::ports::{Outcome, Reason};
use rdkafka::error::RDKafkaErrorCode;
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
