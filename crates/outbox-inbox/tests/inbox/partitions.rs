use std::sync::atomic::Ordering;
use std::time::Duration;

use outbox_core::inbox::{Acknowledging, InboxStorage as _, Partition};
use outbox_inbox::{InboxConfig, InboxError};

use crate::shop::{Shop, Whim, until};

#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_back_stops_the_inbox_until_it_is_forgotten() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    for n in 0..10 {
        shop.publish("a", n);
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    inbox.stop().await;
    let partition = Partition::new("order", 0);
    shop.source.reset(&shop.consumer, &partition, 4);
    let ended = shop.start(InboxConfig::default()).task.await.expect("no panic");
    let Err(InboxError::WentBack { start: 4, remembered: 9, .. }) = ended else { panic!("{ended:?}") };
    assert!(shop.database.memory().forget(&shop.consumer, &partition).await.unwrap());
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), (0..10).collect::<Vec<_>>());
    assert_eq!(inbox.stop().await.stats.duplicates, 6);
}

#[tokio::test(start_paused = true)]
async fn a_slow_message_costs_bounded_memory_and_is_not_passed_by_the_acknowledgement() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("slow-0", Whim::Hang(1));
    shop.publish("slow", 0);
    for n in 0..2_000 {
        shop.publish(&format!("k{}", n % 5), n);
    }
    let config = InboxConfig {
        max_unacknowledged: 100,
        workers: 8,
        batch_size: 10,
        handler_timeout: Duration::from_secs(20),
        ..InboxConfig::default()
    };
    let inbox = shop.start(config);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(shop.source.unacknowledged(&shop.consumer), 2_001, "nothing is contiguous yet");
    let held = inbox.handle.stats().unacknowledged;
    assert!(held <= 200, "{held} messages are tracked"); // the limit and what was on its way
    shop.until_all_is_acknowledged().await;
    until("all are through", || shop.database.effects().len() == 2_001).await;
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_does_not_keep_a_partition_that_is_revoked() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Hang(1));
    for n in 0..3 {
        shop.publish("a", n);
    }
    let config = InboxConfig {
        handler_timeout: Duration::from_secs(40),
        revoke_timeout: Duration::from_secs(2),
        lock_timeout: Duration::from_secs(1),
        ..InboxConfig::default()
    };
    let first = shop.start(config.clone());
    until("it hangs", || shop.calls.load(Ordering::Relaxed) == 1).await;
    shop.source.take_away(&shop.consumer);
    let second = shop.start(config);
    until("the partition is let go", || first.handle.stats().lost_partitions == 1).await;
    // whoever has it now waits for the identity that the hanging handler's transaction holds, and nothing of the key gets past it
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(shop.effects_of("a"), [0; 0]);
    shop.until_all_is_acknowledged().await;
    until("all are through", || shop.effects_of("a").len() == 3).await;
    assert_eq!(shop.effects_of("a"), [0, 1, 2]);
    let stats = [first.stop().await.stats, second.stop().await.stats];
    assert_eq!(stats.iter().map(|stats| stats.processed).sum::<u64>(), 3);
}

#[tokio::test(start_paused = true)]
async fn work_on_a_partition_that_is_revoked_ends_before_it_goes() {
    let shop = Shop::new(Acknowledging::Cumulative, 2);
    shop.on("a-0", Whim::Hang(1));
    shop.publish("a", 0);
    shop.publish("a", 1);
    let config = InboxConfig { handler_timeout: Duration::from_secs(5), ..InboxConfig::default() };
    let first = shop.start(config.clone());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = shop.start(config.clone());
    let third = shop.start(config);
    shop.until_all_is_acknowledged().await;
    until("all are through", || shop.effects_of("a").len() == 2).await;
    assert_eq!(shop.effects_of("a"), [0, 1]);
    for inbox in [first, second, third] {
        inbox.stop().await;
    }
}
