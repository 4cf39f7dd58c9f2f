use std::sync::atomic::Ordering;

use outbox_core::inbox::Acknowledging;
use outbox_core::relay::HealthStatus;
use outbox_inbox::InboxConfig;

use crate::shop::{Shop, until};

#[tokio::test(start_paused = true)]
async fn every_message_is_applied_once_in_order_and_acknowledged() {
    for acknowledging in [Acknowledging::Cumulative, Acknowledging::Individual] {
        let shop = Shop::new(acknowledging, 4);
        for n in 0..500 {
            shop.publish(&format!("k{}", n % 7), n);
        }
        let inbox = shop.start(InboxConfig::default());
        shop.until_all_is_acknowledged().await;
        assert_eq!(inbox.handle.health().status, HealthStatus::Healthy, "{:?}", inbox.handle.health());
        let report = inbox.stop().await;
        assert!(report.drained);
        assert_eq!((report.stats.processed, report.stats.duplicates), (500, 0));
        assert!(report.stats.transactions < 50, "{} transactions: no batches", report.stats.transactions);
        for key in 0..7 {
            let expected: Vec<u32> = (0..500).filter(|n| n % 7 == key).collect();
            assert_eq!(shop.effects_of(&format!("k{key}")), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_message_is_acknowledged_and_counted() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    for n in 0..20 {
        shop.publish("a", n % 10);
    }
    let inbox = shop.start(InboxConfig { batch_size: 3, ..InboxConfig::default() });
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), (0..10).collect::<Vec<_>>());
    assert_eq!(inbox.stop().await.stats.duplicates, 10);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_acknowledgement_applies_nothing_twice() {
    let shop = Shop::new(Acknowledging::Cumulative, 2);
    for n in 0..200 {
        shop.publish("a", n);
        if n % 20 == 0 {
            let inbox = shop.start(InboxConfig { batch_size: 7, ..InboxConfig::default() });
            let calls = shop.calls.load(Ordering::Relaxed);
            until("a handler was called", || shop.calls.load(Ordering::Relaxed) > calls).await;
            inbox.crash();
        }
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), (0..200).collect::<Vec<_>>());
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_consumers_of_one_group_share_the_work_and_apply_once() {
    let shop = Shop::new(Acknowledging::Cumulative, 4);
    let inboxes = [shop.start(InboxConfig::default()), shop.start(InboxConfig::default())];
    for n in 0..600 {
        shop.publish(&format!("k{}", n % 13), n);
        if n % 50 == 0 {
            shop.source.take_away(&shop.consumer);
            tokio::task::yield_now().await;
        }
    }
    shop.until_all_is_acknowledged().await;
    for key in 0..13 {
        let expected: Vec<u32> = (0..600).filter(|n| n % 13 == key).collect();
        assert_eq!(shop.effects_of(&format!("k{key}")), expected);
    }
    for inbox in inboxes {
        inbox.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_database_or_the_broker_is_waited_for() {
    let shop = Shop::new(Acknowledging::Individual, 1);
    shop.database.set_unavailable(true);
    shop.source.set_unavailable(true);
    let inbox = shop.start(InboxConfig::default());
    shop.publish("a", 0);
    until("the database is missed", || inbox.handle.health().status == HealthStatus::Unhealthy).await;
    shop.database.set_unavailable(false);
    until("the broker is missed", || inbox.handle.health().to_text().contains("source: ")).await;
    shop.source.set_unavailable(false);
    shop.until_all_is_acknowledged().await;
    shop.database.set_unavailable(true);
    shop.publish("a", 1);
    until("the database is missed", || inbox.handle.health().status == HealthStatus::Unhealthy).await;
    shop.source.disconnect(&shop.consumer);
    shop.database.set_unavailable(false);
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), [0, 1]);
    until("all is well", || inbox.handle.health().status == HealthStatus::Healthy).await;
    assert_eq!(inbox.stop().await.stats.failed, 0, "an outage burns no attempt");
}

trait ToText {
    fn to_text(&self) -> String;
}

impl ToText for outbox_inbox::InboxHealth {
    fn to_text(&self) -> String {
        self.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}
