//! Two relays that deliver while writers write.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::relay::{Relay, RelayConfig, RelayHandle, RelayReport};
use outbox_testkit::memory::MemoryTransport;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::shop::Shop;
use crate::{verdict, writers};

const RELAYS: usize = 2;
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Writes, delivers everything and judges.
pub(crate) async fn run(shop: &Shop) {
    let transport = MemoryTransport::new();
    let relays: Vec<Running> = (0..RELAYS).map(|number| Running::start(shop, &transport, number)).collect();
    let committed = writers::write(shop, events()).await;
    wait_until_empty(shop, &relays).await;
    for relay in relays {
        let report = relay.stop().await;
        assert!(report.drained, "a relay could not drain: {:?}", report.stats);
        assert_eq!(report.stats.swept, 0, "the order rule must find every late commit, the sweep is only the net");
    }
    verdict::check(&committed, &transport.published());
}

fn events() -> usize {
    const NAME: &str = "OUTBOX_TEST_LATE_EVENTS";
    match std::env::var(NAME) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{NAME} must be a number of events")),
        Err(_) => 20_000,
    }
}

/// A relay in this process with connections of its own.
struct Running {
    handle: RelayHandle,
    task: JoinHandle<RelayReport>,
    stop: oneshot::Sender<()>,
}

impl Running {
    fn start(shop: &Shop, transport: &MemoryTransport, number: usize) -> Self {
        let config = RelayConfig { name: format!("relay-{number}"), ..RelayConfig::default() };
        let storage = Arc::new(shop.storage());
        let relay = Relay::builder_from(storage, Arc::new(transport.clone())).config(config).build();
        let relay = relay.expect("the configuration is valid");
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = relay.handle();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await; // the end of the test stops it too
            };
            relay.run(shutdown).await.expect("the relay runs")
        });
        Self { handle, task, stop }
    }

    async fn stop(self) -> RelayReport {
        let _ = self.stop.send(()); // fails only when it has ended, and then the task says why
        self.task.await.expect("the relay does not panic")
    }
}

async fn wait_until_empty(shop: &Shop, relays: &[Running]) {
    let emptied = async {
        while shop.pending().await > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    if tokio::time::timeout(DRAIN_LIMIT, emptied).await.is_err() {
        let stats: Vec<_> = relays.iter().map(|relay| (relay.handle.stats(), relay.handle.health())).collect();
        panic!("messages are left after {DRAIN_LIMIT:?}: {stats:#?}\n{}", shop.left().await);
    }
}
