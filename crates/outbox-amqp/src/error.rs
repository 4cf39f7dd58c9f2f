/// Why an [`AmqpTransport`](crate::AmqpTransport) cannot be built. Nothing was connected.
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
}
