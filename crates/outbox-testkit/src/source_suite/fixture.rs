use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::inbox::{Consumer, Source};

use crate::BoxError;

/// What the suite needs of an adapter: a broker to publish to, not through the source under test.
#[async_trait]
pub trait SourceFixture: Send + Sync {
    /// A new, empty stream (a topic or queue) with a consumer that has never received from it. With
    /// [`Acknowledging::Cumulative`](outbox_core::inbox::Acknowledging::Cumulative) it has at least two partitions.
    ///
    /// # Errors
    ///
    /// When there is none to be had, for instance because no broker was given: the suite fails.
    async fn fresh(&self) -> Result<Box<dyn TestStream>, BoxError>;

    /// A source whose broker does not answer (nothing listens on the address).
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    async fn unreachable(&self) -> Result<Arc<dyn Source>, BoxError>;
}

/// One stream. Every error fails the case that ran.
#[async_trait]
pub trait TestStream: Send + Sync {
    /// The source under test, of this stream, the same one at each call. A consumer without a position starts at the first message.
    fn source(&self) -> Arc<dyn Source>;

    /// Who receives.
    fn consumer(&self) -> Consumer;

    /// The stream's name, as messages carry it.
    fn name(&self) -> String;

    /// Messages that may still come after a pause: what the source prefetches.
    fn prefetch(&self) -> usize;

    /// Publishes messages, in order; those of one key to one partition.
    ///
    /// # Errors
    ///
    /// When a message cannot be published.
    async fn publish(&self, messages: &[Published]) -> Result<(), BoxError>;

    /// Removes the stream. Called once, also after a failed case.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    async fn remove(self: Box<Self>) -> Result<(), BoxError>;
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What keeps messages in one partition. A source of a broker without record keys need not deliver it.
    pub key: String,
    /// Text by name, in order.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub payload: Vec<u8>,
}
