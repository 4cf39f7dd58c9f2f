/// Why a [`KafkaTransport`](crate::KafkaTransport), or a `KafkaSource`, cannot be built. Nothing was connected.
///
/// Never holds the value of a property that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The list of brokers is empty or malformed.
    #[error("brokers {brokers:?}: {fault}: give a list such as \"kafka-1:9092,kafka-2:9092\"")]
    Brokers {
        /// The list as given.
        brokers: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A property would break the delivery promise.
    #[error("property {key} cannot be {value:?}: {reason}")]
    Forbidden {
        /// The property.
        key: String,
        /// The value as given; these properties are never secret.
        value: String,
        /// What would break, and what to do.
        reason: &'static str,
    },
    /// librdkafka does not know a property or does not take its value.
    #[error("property {key} is not accepted: {fault}")]
    Property {
        /// The property.
        key: String,
        /// What librdkafka says.
        fault: String,
    },
    /// The properties are fine one by one but not together.
    #[error("the properties do not fit together: {fault}")]
    Configuration {
        /// What librdkafka says.
        fault: String,
    },
    /// The topic template is malformed.
    #[error("topic template {template:?} {fault}")]
    Template {
        /// The template as given.
        template: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A topic to receive from cannot be one, or there is none.
    #[error("topics: {fault}")]
    Topics {
        /// What is wrong.
        fault: String,
    },
    /// The CloudEvents source is empty.
    #[error("source is empty: give a URI reference that names this service, such as \"/shop/orders\"")]
    Source,
    /// A time-out is zero.
    #[error("{field} is zero: give a time of at least 1 ms")]
    ZeroTimeout {
        /// The builder's method.
        field: &'static str,
    },
}
