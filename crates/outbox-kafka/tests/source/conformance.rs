//! The source passes the conformance suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::{Consumer, Source};
use outbox_kafka::KafkaSource;
use outbox_testkit::BoxError;
use outbox_testkit::source_suite::{self, Published, SourceFixture, TestStream};

use crate::common::{broker, unique};
use crate::topic::Topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_passes_the_suite() {
    source_suite::run(&Fixture).await;
}

struct Fixture;

struct Stream {
    topic: Topic,
    source: Arc<dyn Source>,
    consumer: Consumer,
}

#[async_trait]
impl SourceFixture for Fixture {
    async fn fresh(&self) -> Result<Box<dyn TestStream>, BoxError> {
        let topic = Topic::create(3).await;
        let source = Arc::new(topic.builder().build()?);
        Ok(Box::new(Stream { source, consumer: Consumer::new(&unique("suite"))?, topic }))
    }

    async fn unreachable(&self) -> Result<Arc<dyn Source>, BoxError> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let source = KafkaSource::builder(nobody.to_string(), ["order"]).request_timeout(Duration::from_secs(2));
        Ok(Arc::new(source.build()?))
    }
}

#[async_trait]
impl TestStream for Stream {
    fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }

    fn consumer(&self) -> Consumer {
        self.consumer.clone()
    }

    fn name(&self) -> String {
        self.topic.name.clone()
    }

    /// What waits in the subscription: its 500, and what was taken from the client meanwhile.
    fn prefetch(&self) -> usize {
        600
    }

    async fn publish(&self, messages: &[Published]) -> Result<(), BoxError> {
        for Published { key, headers, payload } in messages {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            self.topic.publish(key, &headers, payload);
        }
        self.topic.flush();
        Ok(())
    }

    async fn remove(self: Box<Self>) -> Result<(), BoxError> {
        broker::delete_topic(&broker::bootstrap(), &self.topic.name).await;
        Ok(())
    }
}
