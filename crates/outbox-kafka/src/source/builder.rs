use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::properties::SourceProperties;
use super::{KafkaSource, Shared};
use crate::BuildError;
use crate::topic::topic_fault;

/// Where a partition starts of which the group has committed no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// At its oldest message.
    #[default]
    Earliest,
    /// After its newest message at the time of the assignment: what was published before, and what a first member that crashes without a commit has not
    /// processed, is skipped for good.
    Latest,
}

/// Builds a [`KafkaSource`].
#[must_use = "nothing happens before `build`"]
pub struct KafkaSourceBuilder {
    brokers: String,
    topics: Vec<String>,
    properties: BTreeMap<String, String>,
    start_at: StartAt,
    commit_interval: Duration,
    request_timeout: Duration,
}

impl KafkaSourceBuilder {
    pub(super) fn new(brokers: String, topics: Vec<String>) -> Self {
        Self {
            brokers,
            topics,
            properties: BTreeMap::new(),
            start_at: StartAt::default(),
            commit_interval: Duration::from_millis(100),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Sets a property of librdkafka, such as `security.protocol` or `session.timeout.ms`. Those that would lose or double messages are
    /// refused by [`build`](Self::build).
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Sets where a partition starts of which the group has committed no offset. Default: [`StartAt::Earliest`].
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Sets how long acknowledgements may wait before they are committed; those of a partition that is given up, and of a subscription that
    /// closes, do not wait. Default: 100 ms.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Sets how long connecting, asking where a partition starts, and each of the last commits may take. Default: 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Checks everything and builds the source. Connects to nothing.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn build(self) -> Result<KafkaSource, BuildError> {
        let properties = SourceProperties::new(&self.brokers, &self.properties)?;
        for (field, time) in [("commit_interval", self.commit_interval), ("request_timeout", self.request_timeout)] {
            if time < Duration::from_millis(1) {
                return Err(BuildError::ZeroTimeout { field });
            }
        }
        if self.topics.is_empty() {
            return Err(BuildError::Topics { fault: "there are none: name at least one".to_owned() });
        }
        if let Some(fault) = self.topics.iter().find_map(|topic| topic_fault(topic)) {
            return Err(BuildError::Topics { fault });
        }
        let topics: BTreeSet<Arc<str>> = self.topics.into_iter().map(Arc::from).collect();
        Ok(KafkaSource {
            shared: Arc::new(Shared {
                brokers: self.brokers,
                topics: topics.into_iter().collect(),
                properties,
                start_at: self.start_at,
                commit_interval: self.commit_interval,
                request_timeout: self.request_timeout,
            }),
        })
    }
}

impl fmt::Debug for KafkaSourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // values of properties may be secret
        f.debug_struct("KafkaSourceBuilder")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(topics: &[&str]) -> KafkaSourceBuilder {
        KafkaSource::builder("127.0.0.1:9092", topics.iter().copied())
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let refused = [
            (builder(&[]), "topics: there are none"),
            (builder(&["order", "^order.*"]), "holds '^'"),
            (builder(&["order"]).request_timeout(Duration::ZERO), "request_timeout is zero"),
            (builder(&["order"]).commit_interval(Duration::ZERO), "commit_interval is zero"),
            (builder(&["order"]).property("enable.auto.commit", "true"), "property enable.auto.commit cannot be"),
        ];
        for (builder, text) in refused {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_topic_that_is_named_twice_is_one() {
        assert_eq!(builder(&["b", "a", "b"]).build().unwrap().shared.topics, ["a".into(), "b".into()]);
    }

    #[test]
    fn a_password_is_never_shown() {
        let builder = builder(&["order"]).property("sasl.password", "s3cr3t");
        assert!(!format!("{builder:?}").contains("s3cr3t"));
        assert!(!format!("{:?}", builder.build()).contains("s3cr3t"));
    }
}
