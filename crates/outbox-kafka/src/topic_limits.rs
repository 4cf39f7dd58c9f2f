use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

/// How long a topic's limit is waited for. Messages of the topic wait with it, and without the limit they are safe too.
const ANSWER: Duration = Duration::from_secs(2);

/// How long nothing is asked after there was no answer.
const SILENCE: Duration = Duration::from_secs(300);

/// Asks how large the batches of a topic may be, which metadata does not tell.
pub(crate) struct TopicLimits {
    admin: Option<AdminClient<DefaultClientContext>>,
    ask: bool,
    silent_until: Mutex<Option<Instant>>,
}

impl TopicLimits {
    /// `ask` false: no topic is ever asked.
    pub(crate) fn new(admin: AdminClient<DefaultClientContext>, ask: bool) -> Self {
        Self { admin: Some(admin), ask, silent_until: Mutex::default() }
    }

    /// The topic's `max.message.bytes`; `None` when the broker does not say (no permission, an old broker): then only the broker refuses.
    pub(crate) async fn max_batch_bytes(&self, topic: &str) -> Option<usize> {
        let admin = self.admin.as_ref().filter(|_| self.ask && !self.is_silent())?;
        match ask(admin, topic).await {
            Ok(limit) => limit?.parse().ok(),
            Err(error) => {
                tracing::debug!(topic, %error, "max.message.bytes of the topic is unknown");
                if error == KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut) {
                    *self.silent_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + SILENCE);
                }
                None
            }
        }
    }

    fn is_silent(&self) -> bool {
        let until = *self.silent_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

async fn ask(admin: &AdminClient<DefaultClientContext>, topic: &str) -> KafkaResult<Option<String>> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let answers = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await?;
    let Some(answer) = answers.into_iter().next() else { return Ok(None) };
    let config = answer.map_err(KafkaError::AdminOp)?;
    Ok(config.get("max.message.bytes").and_then(|entry| entry.value.clone()))
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
