//! The source passes the conformance suite, on both types of queues.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use outbox_amqp::AmqpSource;
use outbox_core::inbox::{Consumer, Source};
use outbox_testkit::BoxError;
use outbox_testkit::source_suite::{self, Published, SourceFixture, TestStream};

use crate::member::consumer;
use crate::queue::TestQueue;

/// More than a case leaves unacknowledged.
const PREFETCH: u16 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_passes_the_suite_on_classic_queues() {
    source_suite::run(&Fixture("classic")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_passes_the_suite_on_quorum_queues() {
    source_suite::run(&Fixture("quorum")).await;
}

/// With queues of a type.
struct Fixture(&'static str);

struct Stream {
    queue: TestQueue,
    source: Arc<dyn Source>,
}

#[async_trait]
impl SourceFixture for Fixture {
    async fn fresh(&self) -> Result<Box<dyn TestStream>, BoxError> {
        let queue = TestQueue::declare(self.0, true).await;
        let source = Arc::new(queue.builder().prefetch(PREFETCH).build()?);
        Ok(Box::new(Stream { queue, source }))
    }

    async fn unreachable(&self) -> Result<Arc<dyn Source>, BoxError> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let source = AmqpSource::builder(format!("amqp://{nobody}/%2f"), ["order"]);
        Ok(Arc::new(source.request_timeout(Duration::from_secs(2)).build()?))
    }
}

#[async_trait]
impl TestStream for Stream {
    fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }

    fn consumer(&self) -> Consumer {
        consumer()
    }

    fn name(&self) -> String {
        self.queue.name.clone()
    }

    fn prefetch(&self) -> usize {
        usize::from(PREFETCH)
    }

    async fn publish(&self, messages: &[Published]) -> Result<(), BoxError> {
        let messages = messages.iter().map(|Published { headers, payload, .. }| {
            let mut table = FieldTable::default();
            for (name, value) in headers {
                table.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
            }
            (BasicProperties::default().with_headers(table), payload.clone())
        });
        self.queue.publish(messages.collect::<Vec<_>>()).await;
        Ok(())
    }

    async fn remove(self: Box<Self>) -> Result<(), BoxError> {
        self.queue.remove().await;
        Ok(())
    }
}
