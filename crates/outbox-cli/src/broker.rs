//! Which broker the command line names.

/// A broker by its address.
#[derive(Debug, Clone)]
pub(crate) enum BrokerAddress {
    /// Kafka's bootstrap addresses, separated by commas.
    Kafka(String),
}
