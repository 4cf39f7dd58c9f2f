use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::ports::Transport;
use uuid::Uuid;

use crate::BoxError;

/// What the suite needs of an adapter: a broker to send to and to read back from, not through the transport under test.
///
/// A *destination* is a topic or a queue. The suite names it by the aggregate type whose messages the transport routes there.
/// Every error fails the case that ran.
#[async_trait]
pub trait TransportFixture: Send + Sync {
    /// A transport under test. The broker refuses, or the transport knows that it would refuse, payloads of more than
    /// [`oversize_bytes`](Self::oversize_bytes).
    ///
    /// # Errors
    ///
    /// When there is no broker: the suite fails.
    async fn transport(&self) -> Result<Arc<dyn Transport>, BoxError>;

    /// A transport like it whose broker does not answer (nothing listens on the address).
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    async fn unreachable_transport(&self) -> Result<Arc<dyn Transport>, BoxError>;

    /// The aggregate type of a destination that does not exist and that sending to does not create. A new one at each call.
    ///
    /// # Errors
    ///
    /// When it cannot be named.
    async fn missing_destination(&self) -> Result<String, BoxError>;

    /// Creates the destination of an aggregate type from [`missing_destination`](Self::missing_destination), empty, with
    /// at least four slots where the broker has slots within a destination, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    async fn create_destination(&self, aggregate_type: &str) -> Result<(), BoxError>;

    /// All that the destination has received since it was created, the messages of one partition (or queue) in its order.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    async fn received(&self, aggregate_type: &str) -> Result<Vec<Received>, BoxError>;

    /// A payload size, in bytes, that is refused for good before the broker has seen it. Best one that `route` lets pass and
    /// the session refuses (the destination's own limit): its followers are then looked at too.
    fn oversize_bytes(&self) -> usize;
}

/// A message as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The partition or queue; 0 where there is only one.
    pub partition: u32,
    /// The message's identity, from wherever the transport puts it.
    pub id: Uuid,
    /// What happened, from wherever the transport puts it.
    pub event_type: String,
    /// The ordering key, when the message has one.
    pub key: Option<String>,
    /// The payload as it is.
    pub payload: Vec<u8>,
    /// Media type of the payload.
    pub content_type: String,
    /// All headers as text, the message's own among them.
    pub headers: BTreeMap<String, String>,
}
