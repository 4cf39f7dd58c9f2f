use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use outbox_core::Message;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

use crate::properties::Properties;
use crate::routing::{Routing, TopicChoice, TopicFn};
use crate::topic::TopicTemplate;
use crate::topic_limits::TopicLimits;
use crate::transport::Shared;
use crate::{BuildError, CloudEvents, Encoder, KafkaTransport};

/// What CloudEvents name as their source unless the builder is told.
pub const DEFAULT_SOURCE: &str = "/outbox";

/// Builds a [`KafkaTransport`].
#[must_use = "nothing happens before `build`"]
pub struct KafkaTransportBuilder {
    brokers: String,
    properties: BTreeMap<String, String>,
    topic: TopicSetting,
    source: String,
    encoder: Option<Box<dyn Encoder>>,
    stall_timeout: Duration,
    request_timeout: Duration,
    ask_topic_limits: bool,
}

enum TopicSetting {
    Template(String),
    Closure(TopicFn),
}

impl KafkaTransportBuilder {
    pub(crate) fn new(brokers: String) -> Self {
        Self {
            brokers,
            properties: BTreeMap::new(),
            topic: TopicSetting::Template("{aggregate_type}".to_owned()),
            source: DEFAULT_SOURCE.to_owned(),
            encoder: None,
            stall_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            ask_topic_limits: true,
        }
    }

    /// Sets a property of librdkafka, such as `security.protocol` or `compression.type`. Those that would break the delivery promise are refused by
    /// [`build`](Self::build).
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Chooses the topic by a template with the fields `{aggregate_type}` and `{event_type}`. Default: `{aggregate_type}`.
    pub fn topic_template(mut self, template: impl Into<String>) -> Self {
        self.topic = TopicSetting::Template(template.into());
        self
    }

    /// Chooses the topic by a function of the message, which must be pure and cheap: it runs for every message. A result that is no topic
    /// name makes the message a dead letter.
    pub fn topic_with(mut self, topic: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        self.topic = TopicSetting::Closure(Box::new(topic));
        self
    }

    /// Sets the CloudEvents `source`: a URI reference that names the service, such as `/shop/orders`. Default: [`DEFAULT_SOURCE`]. Has no effect
    /// with an [`encoder`](Self::encoder) of your own.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Sets how headers are written. Default: [`CloudEvents`] in binary mode.
    pub fn encoder(mut self, encoder: impl Encoder) -> Self {
        self.encoder = Some(Box::new(encoder));
        self
    }

    /// Sets how long a partition may confirm nothing of what is in flight before the session is given up and all is sent again. Doubles with each
    /// stall of the same partition, up to 5 minutes. Default: 30 s. While no broker at all is connected it is 5 s, or this if it is shorter.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Sets how long connecting, and asking about a topic, may take. Default: 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets whether a session asks each topic for its `max.message.bytes`, to refuse before sending what the broker would refuse. Default: yes. Say
    /// no where brokers do not answer, such as librdkafka's in-process cluster: each topic's first messages would wait up to 2 s for it.
    pub fn ask_topic_limits(mut self, ask: bool) -> Self {
        self.ask_topic_limits = ask;
        self
    }

    /// Checks everything and builds the transport. Connects to nothing.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names what is wrong.
    pub fn build(self) -> Result<KafkaTransport, BuildError> {
        let properties = Properties::new(&self.brokers, &self.properties)?;
        for (field, timeout) in [("stall_timeout", self.stall_timeout), ("request_timeout", self.request_timeout)] {
            if timeout < Duration::from_millis(1) {
                return Err(BuildError::ZeroTimeout { field });
            }
        }
        if self.source.is_empty() && self.encoder.is_none() {
            return Err(BuildError::Source);
        }
        let choice = match self.topic {
            TopicSetting::Template(template) => TopicChoice::Template(TopicTemplate::parse(&template)?),
            TopicSetting::Closure(topic) => TopicChoice::Closure(topic),
        };
        // A client is made now so that properties that do not fit together are found before the relay starts.
        let admin: AdminClient<DefaultClientContext> = properties.admin().create().map_err(|error| match error {
            KafkaError::ClientCreation(fault) => BuildError::Configuration { fault },
            other => BuildError::Configuration { fault: other.to_string() },
        })?;
        Ok(KafkaTransport {
            shared: Arc::new(Shared {
                brokers: self.brokers,
                batch_bytes: AtomicUsize::new(properties.batch_bytes),
                properties,
                routing: Routing::new(choice),
                encoder: self.encoder.unwrap_or_else(|| Box::new(CloudEvents::new(self.source))),
                limits: TopicLimits::new(admin, self.ask_topic_limits),
                stall_timeout: self.stall_timeout,
                stalls: Arc::default(),
                request_timeout: self.request_timeout,
            }),
        })
    }
}

impl fmt::Debug for KafkaTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // values of properties may be secret
        f.debug_struct("KafkaTransportBuilder")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> KafkaTransportBuilder {
        KafkaTransportBuilder::new("127.0.0.1:9092".to_owned())
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let refused = [
            (builder().source(""), "source is empty"),
            (builder().stall_timeout(Duration::ZERO), "stall_timeout is zero"),
            (builder().request_timeout(Duration::ZERO), "request_timeout is zero"),
            (builder().topic_template("{key}"), "unknown field"),
            (builder().property("acks", "0"), "property acks cannot be \"0\""),
        ];
        for (builder, text) in refused {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn properties_that_do_not_fit_together_are_found_before_anything_connects() {
        let error =
            builder().property("security.protocol", "SASL_PLAINTEXT").property("sasl.mechanism", "NONE").build();
        assert!(matches!(error, Err(BuildError::Configuration { .. })), "{error:?}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let builder = builder().property("sasl.password", "s3cr3t");
        assert!(!format!("{builder:?}").contains("s3cr3t"));
        assert!(!format!("{:?}", builder.build()).contains("s3cr3t"));
    }
}
