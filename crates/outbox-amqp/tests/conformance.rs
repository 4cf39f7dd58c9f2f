//! The transport passes the conformance suite on a real RabbitMQ.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::broker::{Observer, header, uri};
use common::unique;
use lapin::message::BasicGetMessage;
use outbox_amqp::{AmqpTransport, AmqpTransportBuilder, Topology};
use outbox_core::ports::Transport;
use outbox_testkit::BoxError;
use outbox_testkit::transport_suite::{self, Received, TransportFixture};
use tokio::sync::Mutex;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transport_passes_the_suite() {
    let fixture = Fixture { observer: Observer::connect().await, received: Mutex::default() };
    transport_suite::run(&fixture).await;
    for exchange in fixture.received.into_inner().into_keys() {
        fixture.observer.delete_exchange(&exchange).await;
    }
}

const MAX_MESSAGE_BYTES: usize = 100_000;

struct Fixture {
    observer: Observer,
    /// What was taken out of each queue so far.
    received: Mutex<HashMap<String, Vec<Received>>>,
}

fn builder(uri: &str) -> AmqpTransportBuilder {
    AmqpTransport::builder(uri)
        .exchange("{aggregate_type}")
        .routing_key("all")
        .topology(Topology::Check)
        .max_message_bytes(MAX_MESSAGE_BYTES)
}

#[async_trait]
impl TransportFixture for Fixture {
    async fn transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        Ok(Arc::new(builder(&uri()).build()?))
    }

    async fn unreachable_transport(&self) -> Result<Arc<dyn Transport>, BoxError> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Arc::new(builder(&format!("amqp://{nobody}/%2f")).request_timeout(Duration::from_secs(2)).build()?))
    }

    async fn missing_destination(&self) -> Result<String, BoxError> {
        Ok(unique("suite"))
    }

    async fn create_destination(&self, aggregate_type: &str) -> Result<(), BoxError> {
        self.observer.destination(aggregate_type).await;
        self.received.lock().await.insert(aggregate_type.to_owned(), Vec::new());
        Ok(())
    }

    async fn received(&self, aggregate_type: &str) -> Result<Vec<Received>, BoxError> {
        let mut received = self.received.lock().await;
        let all = received.get_mut(aggregate_type).ok_or("the destination was not created")?;
        while let Some(message) = self.observer.get(aggregate_type).await {
            all.push(delivered(&message)?);
        }
        Ok(all.clone())
    }

    fn oversize_bytes(&self) -> usize {
        MAX_MESSAGE_BYTES + 1
    }
}

fn delivered(message: &BasicGetMessage) -> Result<Received, BoxError> {
    let properties = &message.delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    let names = properties.headers().iter().flat_map(|headers| headers.inner().keys());
    let headers: BTreeMap<_, _> =
        names.filter_map(|name| Some((name.to_string(), header(message, name.as_str())?))).collect();
    if text(properties.message_id()) != headers.get("cloudEvents_id").cloned() {
        return Err("message_id and cloudEvents_id differ".into());
    }
    Ok(Received {
        partition: 0,
        id: text(properties.message_id()).ok_or("no message_id")?.parse()?,
        event_type: text(properties.kind()).ok_or("no type")?,
        key: headers.get("cloudEvents_subject").cloned(),
        payload: message.delivery.data.clone(),
        content_type: text(properties.content_type()).ok_or("no content_type")?,
        headers,
    })
}
