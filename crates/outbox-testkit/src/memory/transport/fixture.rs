use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::ports::{LaneOrdering, Transport};
use uuid::Uuid;

use super::MemoryTransport;
use super::broker::PublishedMessage;
use crate::BoxError;
use crate::transport_suite::{Received, TransportFixture};

/// Bytes of the largest payload that the fixture's transport takes.
const FIXTURE_MAX_BYTES: usize = 100_000;
/// Long enough for messages to be in flight when a case drops their session.
const FIXTURE_DELAY: Duration = Duration::from_millis(2);

impl MemoryTransport {
    /// A fixture of the conformance suite.
    pub fn fixture(ordering: LaneOrdering) -> impl TransportFixture {
        let transport = Self::new().with_lane_ordering(ordering).with_max_message_bytes(FIXTURE_MAX_BYTES);
        transport.set_delay(FIXTURE_DELAY);
        Fixture(transport.with_declared_topics_only())
    }
}

struct Fixture(MemoryTransport);

#[async_trait]
impl TransportFixture for Fixture {
    async fn transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn unreachable_transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        let transport = MemoryTransport::new();
        transport.stop();
        Ok(Arc::new(transport))
    }

    async fn missing_destination(&self) -> Result<String, BoxError> {
        Ok(format!("topic-{}", Uuid::new_v4()))
    }

    async fn create_destination(&self, aggregate_type: &str) -> Result<(), BoxError> {
        self.0.declare_topic(aggregate_type);
        Ok(())
    }

    async fn received(&self, aggregate_type: &str) -> Result<Vec<Received>, BoxError> {
        Ok(self.0.published_to(aggregate_type).into_iter().map(received).collect())
    }

    fn oversize_bytes(&self) -> usize {
        FIXTURE_MAX_BYTES + 1
    }
}

fn received(published: PublishedMessage) -> Received {
    let message = &*published.message;
    Received {
        partition: published.partition,
        id: message.id,
        event_type: message.event_type.clone(),
        key: message.aggregate_id.clone(),
        payload: message.payload.as_ref().to_vec(),
        content_type: message.content_type.clone(),
        headers: message.headers.to_map(),
    }
}
