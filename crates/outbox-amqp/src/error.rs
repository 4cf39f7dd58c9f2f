use std::time::Duration;

/// Why an [`AmqpTransport`](crate::AmqpTransport), or an `AmqpSource`, cannot be built. Nothing was connected.
///
/// Never holds a password or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The URI is malformed. It is not shown: it may hold a password.
    #[error("uri: {fault}: give one such as \"amqp://user:password@rabbit:5672/%2f\", or amqps:// for TLS")]
    Uri {
        /// What is wrong with it.
        fault: String,
    },
    /// A template is malformed.
    #[error("{field} {template:?} {fault}")]
    Template {
        /// The builder's method.
        field: &'static str,
        /// The template as given.
        template: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A name is longer than AMQP can carry.
    #[error("{field} has {bytes} bytes, the limit is 255")]
    TooLong {
        /// The builder's method.
        field: &'static str,
        /// Its size in bytes.
        bytes: usize,
    },
    /// The CloudEvents source is empty.
    #[error("source is empty: give a URI reference that names this service, such as \"/shop/orders\"")]
    Source,
    /// A time-out is too short to mean anything.
    #[error("{field} is {millis} ms: give a time of at least {least_millis} ms")]
    Timeout {
        /// The builder's method.
        field: &'static str,
        /// The time as given, in milliseconds.
        millis: u128,
        /// The shortest that is taken, in milliseconds.
        least_millis: u128,
    },
    /// An expiration is longer than the broker takes: it would refuse every message.
    #[error("expiration is {millis} ms: give a time of at most {} ms, or none", u32::MAX)]
    Expiration {
        /// The time as given, in milliseconds.
        millis: u128,
    },
    /// A certificate or key is not in PEM form.
    #[error("{field} holds no PEM block {block:?}")]
    Pem {
        /// The builder's method.
        field: &'static str,
        /// The block that was looked for.
        block: &'static str,
    },
    /// A queue to receive from cannot be one, or there is none.
    #[error("queues: {fault}")]
    Queues {
        /// What is wrong.
        fault: String,
    },
    /// The prefetch is zero, which is without a limit to AMQP.
    #[error("prefetch is 0, which AMQP takes for no limit: give at least 1 message")]
    Prefetch,
}

/// # Errors
///
/// [`BuildError::Timeout`] when a time is shorter than it may be.
pub(crate) fn at_least(field: &'static str, time: Duration, least: Duration) -> Result<(), BuildError> {
    if time >= least {
        return Ok(());
    }
    Err(BuildError::Timeout { field, millis: time.as_millis(), least_millis: least.as_millis() })
}
