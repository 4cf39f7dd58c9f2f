use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::inbox::Consumer;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::BuildError;
use crate::properties::{check_brokers, check_values};

/// What the promise stands on. A user may repeat these values but not change them.
const PROMISE: [(&str, &str, &str); 8] = [
    ("enable.auto.commit", "false", "it commits what is not processed yet: a crash would lose it; leave it out"),
    ("enable.auto.offset.store", "false", "it commits what is not processed yet: a crash would lose it; leave it out"),
    (
        "auto.offset.reset",
        "error",
        "it skips messages without a word when an offset is gone; use start_at for a group without offsets",
    ),
    (
        "partition.assignment.strategy",
        "cooperative-sticky",
        "the others take all partitions away at each rebalance, and cannot be mixed with it in a group; leave it out",
    ),
    ("group.protocol", "classic", "only the classic protocol asks members before it takes partitions; leave it out"),
    ("enable.partition.eof", "false", "the end of a partition is no event of the inbox; leave it out"),
    ("allow.auto.create.topics", "false", "a topic with a typing error would be created; create it yourself"),
    ("isolation.level", "read_committed", "messages of transactions that were aborted would be applied; leave it out"),
];

/// Other names of what is in [`PROMISE`].
const ALIASES: [(&str, &str); 1] = [("auto.commit.enable", "enable.auto.commit")];

/// Properties that are refused whatever their value.
const REFUSED: [(&str, &str); 5] = [
    ("bootstrap.servers", "the brokers are an argument of KafkaSource::builder; leave it out"),
    ("metadata.broker.list", "the brokers are an argument of KafkaSource::builder; leave it out"),
    ("group.id", "the consumer group is the consumer's name; leave it out"),
    (
        "group.instance.id",
        "a static member keeps its partitions after it has left, and two subscriptions fence each other; leave it out",
    ),
    ("log.queue", "the source reads the log itself; leave it out"),
];

/// What a user may change.
const DEFAULTS: [(&str, &str); 7] = [
    ("client.id", "outbox-inbox"),
    // Memory of messages that wait in the client, all partitions together. A larger message still comes, alone.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "10000"),
    (MAX_POLL_INTERVAL, "300000"),
    ("check.crcs", "true"),
    ("reconnect.backoff.max.ms", "1000"),
    // Idle connections are closed by brokers every few minutes: nothing to report.
    ("log.connection.close", "false"),
];

const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";

/// Checked properties of librdkafka: the defaults, the user's own over them, and those of the promise.
pub(super) struct SourceProperties {
    values: BTreeMap<String, String>,
    /// How long a partition that others wait for may be kept.
    pub(super) revoke_timeout: Duration,
}

impl SourceProperties {
    pub(super) fn new(brokers: &str, own: &BTreeMap<String, String>) -> Result<Self, BuildError> {
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
        let mut properties = Self { values, revoke_timeout: Duration::ZERO };
        check_values(&properties.client())?;
        // half of what the broker waits for: the rest is for the last commit and the way back into the group
        let max_poll_ms = properties.values.get(MAX_POLL_INTERVAL).and_then(|value| value.trim().parse().ok());
        properties.revoke_timeout = Duration::from_millis(max_poll_ms.unwrap_or(0) / 2);
        Ok(properties)
    }

    pub(super) fn consumer(&self, consumer: &Consumer) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", consumer.as_str());
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
}

fn check(key: &str, value: &str) -> Result<(), BuildError> {
    let forbidden = |reason| Err(BuildError::Forbidden { key: key.to_owned(), value: value.to_owned(), reason });
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
        return forbidden(reason);
    }
    let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
    match PROMISE.iter().find(|(promised, ..)| *promised == name) {
        Some((_, wanted, reason)) if value != *wanted => forbidden(reason),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Result<SourceProperties, BuildError> {
        SourceProperties::new("127.0.0.1:9092", &BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn properties_that_would_lose_or_double_messages_are_refused_with_the_reason() {
        for (key, value) in [
            ("enable.auto.commit", "true"),
            ("auto.commit.enable", "true"),
            ("enable.auto.offset.store", "true"),
            ("auto.offset.reset", "latest"),
            ("partition.assignment.strategy", "range"),
            ("group.protocol", "consumer"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "true"),
            ("isolation.level", "read_uncommitted"),
            ("group.id", "x"),
            ("group.instance.id", "x"),
            ("bootstrap.servers", "x:1"),
            ("metadata.broker.list", "x:1"),
        ] {
            let Err(error) = with(key, value) else { panic!("{key}={value} was accepted") };
            assert!(matches!(error, BuildError::Forbidden { .. }), "{key}: {error}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn the_promised_values_may_be_repeated() {
        for (key, value, _) in PROMISE {
            assert!(with(key, value).is_ok(), "{key}={value}");
        }
    }

    #[test]
    fn an_own_value_replaces_the_default_and_the_promise_stands() {
        let properties = with("max.poll.interval.ms", "60000").ok().unwrap();
        assert_eq!(properties.revoke_timeout, Duration::from_secs(30));
        let config = properties.consumer(&Consumer::new("billing").unwrap());
        assert_eq!(config.get("max.poll.interval.ms"), Some("60000"));
        assert_eq!(config.get("group.id"), Some("billing"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
    }

    #[test]
    fn a_value_that_librdkafka_refuses_is_not_shown() {
        let error = with("security.protocol", "s3cr3t").err().unwrap();
        assert!(matches!(&error, BuildError::Property { key, .. } if key == "security.protocol"), "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
}
