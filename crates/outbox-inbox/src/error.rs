use outbox_core::inbox::{Partition, SourceError};
use outbox_core::ports::StorageError;

/// Why an inbox ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// The database must not be used as it is; nothing was processed.
    #[error("the inbox cannot use its database: {0}")]
    Storage(#[source] StorageError),
    /// The broker does not let this consumer work.
    #[error("the inbox cannot receive: {0}")]
    Source(#[source] SourceError),
    /// A partition starts below what this consumer has consumed: the topic was made anew, or somebody reset the consumer. What would come was
    /// consumed before, or has nothing to do with what was remembered.
    #[error(
        "{partition} starts at {start}, but everything up to {remembered} was consumed: the topic was made anew, or the \
         consumer's position was reset; forget the remembered position of the partition if that is what you want"
    )]
    WentBack {
        /// Which partition.
        partition: Partition,
        /// Where it starts.
        start: i64,
        /// What was consumed, up to and including this position.
        remembered: i64,
    },
}
