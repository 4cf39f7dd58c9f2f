//! Late commits for real: order must hold although transactions commit out of the order of their sequence numbers.
//!
//! `OUTBOX_TEST_LATE_EVENTS` sets the number of events (default 20,000; the full proof takes 100,000).
#![cfg(feature = "postgres")]
#![allow(clippy::print_stdout)] // the seed and the figures, shown when a test fails

mod shop;
mod verdict;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::relay::{Relay, RelayConfig, RelayHandle, RelayReport};
use outbox_testkit::memory::MemoryTransport;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use shop::Shop;

const RELAYS: usize = 2;
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A transaction that is open in one run is running in the snapshots of the other, so they follow each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_are_delivered_in_order_by_two_relays() {
    let _alone = ONE_AT_A_TIME.lock().await;
    run(&Shop::create().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_are_delivered_in_order_while_a_write_transaction_stays_open_elsewhere() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let shop = Shop::create().await;
    let mut elsewhere = shop.connection().await;
    let held = "CREATE TABLE elsewhere (n int); BEGIN; INSERT INTO elsewhere VALUES (1)";
    elsewhere.batch_execute(held).await.expect("a transaction stays open");
    run(&shop).await;
    elsewhere.batch_execute("ROLLBACK").await.expect("it was open all the time");
}

async fn run(shop: &Shop) {
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
