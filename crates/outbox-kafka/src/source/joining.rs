use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outbox_core::inbox::{Consumer, SourceError, SourceErrorKind};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Shared;
use super::context::{Events, KafkaConsumer};
use super::fault::refusal;
use super::mailbox::Mailbox;
use super::subscription::KafkaSubscription;
use super::worker::Worker;

/// How long one question to the brokers may take before it is looked whether anybody still wants the answer.
const ASK: Duration = Duration::from_millis(500);

/// Makes a consumer, waits until the brokers know its topics, and subscribes. Blocks.
pub(super) fn join(
    shared: &Arc<Shared>,
    consumer: &Consumer,
    is_wanted: &AtomicBool,
) -> Result<KafkaSubscription, SourceError> {
    let client: KafkaConsumer = shared
        .properties
        .consumer(consumer)
        .create_with_context(Events::default())
        .map_err(|error| creation(&error))?;
    let deadline = Instant::now() + shared.request_timeout;
    for topic in &shared.topics {
        while !is_known(&client, topic)? {
            if Instant::now() >= deadline || !is_wanted.load(Ordering::Relaxed) {
                return Err(unreachable(shared, &client));
            }
        }
    }
    let topics: Vec<&str> = shared.topics.iter().map(|topic| &**topic).collect();
    client.subscribe(&topics).map_err(|error| {
        SourceError::new(SourceErrorKind::Unavailable, "subscribing to the topics failed").with_source(error)
    })?;
    let mailbox = Arc::<Mailbox>::default();
    let subscription = KafkaSubscription::new(mailbox.clone());
    Worker::start(client, mailbox, shared.clone()).map_err(|error| {
        let message = "no thread could be started for the kafka consumer";
        SourceError::new(SourceErrorKind::Unavailable, message).with_source(error)
    })?;
    Ok(subscription)
}

/// `false`: no broker answered in time, or the topic has no leader yet.
fn is_known(client: &KafkaConsumer, topic: &str) -> Result<bool, SourceError> {
    let metadata = match client.fetch_metadata(Some(topic), ASK) {
        Ok(metadata) => metadata,
        Err(error) => {
            // what the client says of its connections comes by polling
            while let Some(Err(_)) = client.poll(Duration::ZERO) {}
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            return match refusal(code) {
                Some(fix) => Err(refused(topic, code, fix)),
                None => Ok(false),
            };
        }
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(false) };
    let Some(error) = found.error() else { return Ok(!found.partitions().is_empty()) };
    let code = RDKafkaErrorCode::from(error);
    match refusal(code) {
        Some(fix) => Err(refused(topic, code, fix)),
        None => Ok(false),
    }
}

fn refused(topic: &str, code: RDKafkaErrorCode, fix: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Refused, format!("topic {topic}: {code}: {fix}"))
}

fn unreachable(shared: &Shared, client: &KafkaConsumer) -> SourceError {
    let cause = client.context().last_error().unwrap_or_else(|| "no answer".to_owned());
    let message = format!(
        "no kafka broker of {} told the topics' partitions within {:?}: {cause}",
        shared.brokers, shared.request_timeout
    );
    SourceError::new(SourceErrorKind::Unavailable, message)
}

fn creation(error: &KafkaError) -> SourceError {
    let fault = match error {
        KafkaError::ClientCreation(fault) => fault.clone(),
        // its text holds the value, which may be secret
        KafkaError::ClientConfig(_, _, key, _) => format!("property {key}"),
        other => other.to_string(),
    };
    SourceError::new(SourceErrorKind::Refused, format!("the kafka consumer could not be made: {fault}"))
}
