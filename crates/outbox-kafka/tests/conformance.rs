//! The transport passes the conformance suite on a real Kafka.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{broker, unique};
use outbox_core::ports::Transport;
use outbox_kafka::KafkaTransport;
use outbox_testkit::BoxError;
use outbox_testkit::transport_suite::{self, Received, TransportFixture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transport_passes_the_suite() {
    transport_suite::run(&Fixture { bootstrap: broker::bootstrap() }).await;
}

/// Bytes of a batch that the suite's topics take.
const MAX_MESSAGE_BYTES: usize = 100_000;

struct Fixture {
    bootstrap: String,
}

#[async_trait]
impl TransportFixture for Fixture {
    async fn transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        Ok(Arc::new(KafkaTransport::builder(&self.bootstrap).property("batch.size", "50000").build()?))
    }

    async fn unreachable_transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let timeout = std::time::Duration::from_secs(2);
        Ok(Arc::new(KafkaTransport::builder(nobody.to_string()).request_timeout(timeout).build()?))
    }

    async fn missing_destination(&self) -> Result<String, BoxError> {
        Ok(unique("suite"))
    }

    async fn create_destination(&self, aggregate_type: &str) -> Result<(), BoxError> {
        let limit = MAX_MESSAGE_BYTES.to_string();
        broker::create_topic(&self.bootstrap, aggregate_type, 4, &[("max.message.bytes", &limit)]).await;
        Ok(())
    }

    async fn received(&self, aggregate_type: &str) -> Result<Vec<Received>, BoxError> {
        let (bootstrap, topic) = (self.bootstrap.clone(), aggregate_type.to_owned());
        let records = tokio::task::spawn_blocking(move || broker::records(&bootstrap, &topic)).await?;
        records.into_iter().map(received).collect()
    }

    fn oversize_bytes(&self) -> usize {
        MAX_MESSAGE_BYTES + 1
    }
}

fn received(record: broker::Record) -> Result<Received, BoxError> {
    let header = |name: &str| record.headers.get(name).cloned().ok_or_else(|| format!("no header {name}"));
    Ok(Received {
        partition: record.partition.try_into()?,
        id: header("ce_id")?.parse()?,
        event_type: header("ce_type")?,
        key: record.key.clone().map(String::from_utf8).transpose()?,
        payload: record.value.clone(),
        content_type: header("content-type")?,
        headers: record.headers.clone(),
    })
}
