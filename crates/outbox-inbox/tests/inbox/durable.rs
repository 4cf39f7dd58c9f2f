use std::sync::atomic::Ordering;
use std::time::Duration;

use outbox_core::inbox::Acknowledging;
use outbox_inbox::{InboxConfig, Mode};

use crate::shop::{Shop, Whim, quick, until};

fn durable() -> InboxConfig {
    InboxConfig { mode: Mode::Durable, claim_lease: Duration::from_secs(5), ..quick() }
}

#[tokio::test(start_paused = true)]
async fn messages_are_stored_acknowledged_and_then_processed_in_order() {
    let shop = Shop::new(Acknowledging::Cumulative, 4);
    for n in 0..400 {
        shop.publish(&format!("k{}", n % 9), n);
    }
    let inbox = shop.start(durable());
    until("all are processed", || shop.database.effects().len() == 400).await;
    assert_eq!(shop.source.unacknowledged(&shop.consumer), 0);
    for key in 0..9 {
        let expected: Vec<u32> = (0..400).filter(|n| n % 9 == key).collect();
        assert_eq!(shop.effects_of(&format!("k{key}")), expected);
    }
    let stats = inbox.stop().await.stats;
    assert_eq!((stats.held, stats.processed), (400, 400));
}

#[tokio::test(start_paused = true)]
async fn the_broker_does_not_wait_for_a_handler_that_hangs() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Hang(1));
    for n in 0..10 {
        shop.publish("a", n);
    }
    let inbox = shop.start(InboxConfig { handler_timeout: Duration::from_secs(20), ..durable() });
    shop.until_all_is_acknowledged().await;
    assert!(shop.effects_of("a").is_empty());
    until("all are processed", || shop.effects_of("a").len() == 10).await;
    assert_eq!(shop.effects_of("a"), (0..10).collect::<Vec<_>>());
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_received_before_a_crash_is_processed_after_it() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Hang(1));
    for n in 0..10 {
        shop.publish("a", n);
    }
    let inbox = shop.start(durable());
    until("a handler hangs", || shop.calls.load(Ordering::Relaxed) == 1).await;
    shop.until_all_is_acknowledged().await;
    inbox.crash();
    let inbox = shop.start(durable());
    until("all are processed", || shop.effects_of("a").len() == 10).await;
    assert_eq!(shop.effects_of("a"), (0..10).collect::<Vec<_>>());
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_mode_may_change_with_messages_in_the_table() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Fail(3));
    for n in 0..5 {
        shop.publish("a", n);
    }
    let inbox = shop.start(durable());
    shop.until_all_is_acknowledged().await;
    inbox.crash();
    for n in 5..10 {
        shop.publish("a", n);
    }
    let inbox = shop.start(quick());
    until("all are processed", || shop.effects_of("a").len() == 10).await;
    assert_eq!(shop.effects_of("a"), (0..10).collect::<Vec<_>>());
    inbox.stop().await;
}
