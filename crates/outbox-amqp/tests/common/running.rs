//! A relay between the in-memory storage and RabbitMQ.

use outbox_amqp::AmqpTransport;
use outbox_core::relay::{HealthReason, HealthStatus, RelayReport};
use outbox_core::{NewMessage, Relay, RelayConfig, RelayHandle};
use outbox_testkit::memory::MemoryStorage;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::eventually;

pub(crate) struct Running {
    pub(crate) handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<RelayReport>,
}

impl Running {
    pub(crate) fn start(storage: &MemoryStorage, transport: AmqpTransport) -> Self {
        let relay = Relay::builder(storage.clone(), transport).config(RelayConfig::default()).build().expect("a relay");
        let handle = relay.handle();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let shutdown = async move { drop(stopped.await) };
            relay.run(shutdown).await.expect("the relay runs")
        });
        Self { handle, stop, task }
    }

    /// Waits until health gives a reason that `is_it` picks out, and returns its text.
    pub(crate) async fn health_says(&self, is_it: impl Fn(&HealthReason) -> bool) -> String {
        eventually("health says it", || async {
            self.handle.health().reasons.iter().find(|reason| is_it(reason)).map(ToString::to_string)
        })
        .await
    }

    pub(crate) async fn is_healthy(&self) {
        eventually("the relay is healthy", || async {
            (self.handle.health().status == HealthStatus::Healthy).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) -> RelayReport {
        self.stop.send(()).expect("the relay still runs");
        self.task.await.expect("the relay does not panic")
    }
}

/// Appends message number `n` of a key.
pub(crate) fn append(storage: &MemoryStorage, aggregate_type: &str, key: &str, n: usize) {
    let message = NewMessage::new(aggregate_type, "placed", n.to_string().into_bytes()).aggregate_id(key);
    storage.append(&message).expect("a valid message");
}

pub(crate) async fn everything_is_settled(storage: &MemoryStorage) {
    eventually("everything is settled", || async { storage.pending().is_empty().then_some(()) }).await;
}
