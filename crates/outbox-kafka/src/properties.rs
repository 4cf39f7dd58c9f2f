use std::collections::BTreeMap;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::BuildError;

/// What the delivery promise stands on. A user may repeat these values but not change them.
const PROMISE: [(&str, &str, &str); 4] = [
    ("enable.idempotence", "true", "without it a retry duplicates and reorders messages; leave it out"),
    ("acks", "all", "without it a message that was confirmed can be lost with its leader; leave it out"),
    ("enable.gapless.guarantee", "true", "without it the followers of a failed message overtake it; leave it out"),
    (
        "message.timeout.ms",
        "0",
        "a message that times out leaves a gap in its key; leave it out, the relay watches for stalls (stall_timeout)",
    ),
];

/// Defaults of librdkafka that the promise needs as they are.
const UNCHANGED: [(&str, &str, &str); 3] = [
    ("queuing.strategy", "fifo", "it reverses the order of messages; leave it out"),
    ("delivery.report.only.error", "false", "the relay settles a message by its delivery report; leave it out"),
    ("retries", "2147483647", "giving up on a message leaves a gap in its key; leave it out"),
];

/// Other names of what is in [`PROMISE`] and [`UNCHANGED`].
const ALIASES: [(&str, &str); 3] = [
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
];

/// Properties that are refused whatever their value.
const REFUSED: [(&str, &str); 5] = [
    ("bootstrap.servers", "the brokers are an argument of KafkaTransport::builder; leave it out"),
    ("metadata.broker.list", "the brokers are an argument of KafkaTransport::builder; leave it out"),
    ("transactional.id", "the relay does not use transactions: its messages would never be visible; leave it out"),
    ("partitioner", "the relay computes the partition itself, as Java's murmur2 does; leave it out"),
    ("log.queue", "the transport reads the log itself; leave it out"),
];

/// What a user may change.
const DEFAULTS: [(&str, &str); 9] = [
    ("client.id", "outbox-relay"),
    // The window of the relay fills batches by itself; waiting for more only adds latency (see docs of the crate).
    ("linger.ms", "0"),
    ("socket.nagle.disable", "true"),
    // The real limit is the topic's `max.message.bytes`, which a session asks for; this one only bounds memory.
    // 16 MiB, the relay's default `max_message_bytes`, and room for key and headers.
    (MAX_MESSAGE_BYTES, "16842752"),
    (BATCH_BYTES, "1000000"),
    // Above the relay's window (10,000 messages, 32 MiB), so that `send` does not wait in normal operation.
    ("queue.buffering.max.messages", "100000"),
    (QUEUE_KBYTES, "65536"),
    ("reconnect.backoff.max.ms", "1000"),
    // Idle connections are closed by brokers every few minutes: nothing to report.
    ("log.connection.close", "false"),
];

const MAX_MESSAGE_BYTES: &str = "message.max.bytes";
const BATCH_BYTES: &str = "batch.size";
const QUEUE_KBYTES: &str = "queue.buffering.max.kbytes";
const MAX_IN_FLIGHT: [&str; 2] = ["max.in.flight", "max.in.flight.requests.per.connection"];
const COMPRESSION: [&str; 2] = ["compression.codec", "compression.type"];

/// Checked properties of librdkafka: the defaults, the user's own over them, and those of the promise.
#[derive(Clone)]
pub(crate) struct Properties {
    values: BTreeMap<String, String>,
    /// Largest record that a producer takes, in bytes with key and headers.
    pub(crate) max_message_bytes: usize,
    /// Configured size of a batch, in bytes.
    pub(crate) batch_bytes: usize,
    /// Whether batches may be compressed, so that their size is not known before the broker sees them.
    pub(crate) compressed: bool,
}

impl Properties {
    pub(crate) fn new(brokers: &str, own: &BTreeMap<String, String>) -> Result<Self, BuildError> {
        check_brokers(brokers)?;
        let mut values: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, value) in own {
            check(key, value)?;
            values.insert(key.clone(), value.clone());
        }
        for (key, value, _) in PROMISE {
            values.insert(key.to_owned(), value.to_owned());
        }
        values.insert("bootstrap.servers".to_owned(), brokers.to_owned());
        let mut properties = Self { values, max_message_bytes: 0, batch_bytes: 0, compressed: false };
        properties.check_values()?;
        properties.max_message_bytes = properties.number(MAX_MESSAGE_BYTES);
        properties.batch_bytes = properties.number(BATCH_BYTES);
        properties.compressed =
            COMPRESSION.iter().any(|key| properties.values.get(*key).is_some_and(|codec| codec != "none"));
        let queue_kbytes = properties.number(QUEUE_KBYTES);
        if properties.max_message_bytes > queue_kbytes.saturating_mul(1024) {
            let fault = format!(
                "{MAX_MESSAGE_BYTES} is {} but {QUEUE_KBYTES} is {queue_kbytes}, so that the largest message never fits: \
                 raise {QUEUE_KBYTES}",
                properties.max_message_bytes
            );
            return Err(BuildError::Configuration { fault });
        }
        Ok(properties)
    }

    /// For a producer with batches of at most `batch_bytes`.
    pub(crate) fn producer(&self, batch_bytes: usize) -> ClientConfig {
        let mut config = self.client();
        config.set(BATCH_BYTES, batch_bytes.to_string());
        config
    }

    /// For a client that asks about topics and sends no messages.
    pub(crate) fn admin(&self) -> ClientConfig {
        let mut config = self.client();
        config.remove("enable.gapless.guarantee");
        // an idempotent client connects at once to get its producer id; this one connects when it is asked something
        config.set("enable.idempotence", "false");
        // nobody reads this client's log; the producer beside it says the same
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in &self.values {
            config.set(key, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    fn check_values(&self) -> Result<(), BuildError> {
        check_values(&self.client())
    }

    fn number(&self, key: &str) -> usize {
        // librdkafka has accepted the value as a number within the property's range
        self.values.get(key).and_then(|value| value.trim().parse().ok()).unwrap_or(usize::MAX)
    }
}

fn check(key: &str, value: &str) -> Result<(), BuildError> {
    let forbidden = |reason| Err(BuildError::Forbidden { key: key.to_owned(), value: value.to_owned(), reason });
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
        return Err(BuildError::Forbidden { key: key.to_owned(), value: value.to_owned(), reason });
    }
    let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
    if let Some((_, wanted, reason)) = PROMISE.iter().chain(&UNCHANGED).find(|(promised, ..)| *promised == name)
        && value != *wanted
        && (name, value) != ("acks", "-1")
    {
        return forbidden(reason);
    }
    if MAX_IN_FLIGHT.contains(&key) && !value.parse::<u32>().is_ok_and(|requests| (1..=5).contains(&requests)) {
        return forbidden("an idempotent producer keeps the order of at most 5 requests: use 1 to 5");
    }
    Ok(())
}

/// Asks librdkafka whether it takes each property.
pub(crate) fn check_values(config: &ClientConfig) -> Result<(), BuildError> {
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, fault, key, value)) => {
            // librdkafka repeats the value in some of its texts
            let fault = if value.is_empty() { fault } else { fault.replace(&value, "…") };
            Err(BuildError::Property { key, fault })
        }
        Err(other) => Err(BuildError::Configuration { fault: other.to_string() }),
    }
}

pub(crate) fn check_brokers(brokers: &str) -> Result<(), BuildError> {
    // what stands before an '@' may be a password
    let shown = || brokers.split(',').map(|it| it.rsplit_once('@').map_or(it, |(_, host)| host)).collect::<Vec<_>>();
    let fault = |fault| Err(BuildError::Brokers { brokers: shown().join(","), fault });
    for broker in brokers.split(',').map(str::trim) {
        let address = broker.split_once("://").map_or(broker, |(_, address)| address);
        if address.is_empty() {
            return fault("an address is empty");
        }
        if address.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@')) {
            return fault("an address is not HOST:PORT");
        }
        let port = address.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        if let Some((host, port)) = port
            && (host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            return fault("an address is not HOST:PORT");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
