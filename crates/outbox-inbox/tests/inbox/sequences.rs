//! What the numbers of messages tell.

use outbox_core::inbox::Acknowledging;
use outbox_core::relay::HealthStatus;
use outbox_inbox::{InboxConfig, InboxHealthReason};

use crate::shop::{OrderPlaced, Shop, headers, until};

fn config() -> InboxConfig {
    InboxConfig { sequence_keys: Some(1_000), ..InboxConfig::default() }
}

fn publish(shop: &Shop, id: u32, sequence: &str, sequencetype: Option<&str>) {
    let mut headers = headers(&format!("a-{id}"), "order.placed");
    headers.push("ce_sequence", sequence.to_owned());
    if let Some(sequencetype) = sequencetype {
        headers.push("ce_sequencetype", sequencetype.to_owned());
    }
    let payload = serde_json::to_vec(&OrderPlaced { order: "a".to_owned(), n: id }).unwrap();
    shop.source.publish("order", Some("a"), headers, &payload);
}

#[tokio::test(start_paused = true)]
async fn a_missing_message_is_told_and_forgiven_when_it_comes_late() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    let inbox = shop.start(config());
    for number in [1, 2, 4, 4, 5] {
        publish(&shop, number, &format!("{number:010}"), Some("Integer"));
    }
    shop.until_all_is_acknowledged().await;
    until("it is told", || inbox.handle.stats().sequence_missing == 1).await;
    let health = inbox.handle.health();
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(health.reasons, [InboxHealthReason::Missing(1)]);
    assert_eq!(health.reasons[0].to_string(), "1 messages are missing by their sequence numbers");
    publish(&shop, 3, "0000000003", Some("Integer"));
    until("it is healthy", || inbox.handle.health().status == HealthStatus::Healthy).await;
    let stats = inbox.stop().await.stats;
    assert_eq!((stats.sequence_missing, stats.sequence_stale, stats.sequence_repeated), (1, 1, 0));
    assert_eq!((stats.duplicates, stats.processed), (1, 5), "nothing is held back");
}

#[tokio::test(start_paused = true)]
async fn the_relay_s_numbers_tell_stale_messages_and_a_number_that_was_given_twice() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    let inbox = shop.start(config());
    for (id, number) in [(1, 17), (2, 170), (3, 90), (4, 170), (5, 171)] {
        publish(&shop, id, &format!("{number:019}"), None);
    }
    shop.until_all_is_acknowledged().await;
    let stats = inbox.stop().await.stats;
    assert_eq!((stats.sequence_missing, stats.sequence_stale, stats.sequence_repeated), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_at_numbers_unless_asked_to() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    let inbox = shop.start(InboxConfig::default());
    for number in [1, 5, 3, 3] {
        publish(&shop, number, &format!("{number:010}"), Some("Integer"));
    }
    shop.until_all_is_acknowledged().await;
    let stats = inbox.stop().await.stats;
    assert_eq!((stats.sequence_missing, stats.sequence_stale, stats.sequence_repeated), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_processed_is_not_missing_and_redeliveries_are_no_news() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    for number in 1..=20 {
        publish(&shop, number, &format!("{number:010}"), Some("Integer"));
    }
    shop.on("a-7", crate::shop::Whim::Fail(1_000));
    let config = InboxConfig { max_attempts: 1, ..config() };
    let first = shop.start(config.clone());
    until("some are through", || shop.effects_of("a").len() > 5).await;
    first.crash();
    let second = shop.start(config);
    shop.until_all_is_acknowledged().await;
    let stats = second.stop().await.stats;
    assert_eq!((stats.sequence_missing, stats.sequence_stale, stats.sequence_repeated), (0, 0, 0));
    assert_eq!(shop.dead_letters().await.len(), 1);
}
