use std::time::Duration;

use outbox_core::inbox::{Acknowledging, Incoming, Partition};
use outbox_inbox::{InboxConfig, InboxHealthReason};

use crate::shop::{OrderPlaced, Shop, headers, until};

const DAY: Duration = Duration::from_secs(86_400);

fn config() -> InboxConfig {
    InboxConfig { retention: Some(DAY), purge_interval: Duration::from_secs(300), ..InboxConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn identities_are_forgotten_after_the_retention_and_older_messages_are_dead_letters() {
    let shop = Shop::new(Acknowledging::Individual, 1);
    let payload = serde_json::to_vec(&OrderPlaced { order: "a".to_owned(), n: 7 }).unwrap();
    let message = Incoming {
        partition: Partition::new("order", 0),
        position: 0,
        key: None,
        headers: headers("7", "order.placed"),
        payload: Some(payload.into()),
        timestamp: Some(shop.database.now()),
        redelivered: false,
    };
    shop.source.publish_as(message.clone());
    let inbox = shop.start(config());
    tokio::time::sleep(DAY).await;
    until("it is purged", || inbox.handle.stats().purged == 1).await;
    shop.source.publish_as(message);
    shop.publish("a", 8);
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), [7, 8], "nothing is applied twice");
    assert_eq!(shop.dead_letters().await[0].reason, "beyond_retention");
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_purges_nothing() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.publish("a", 0);
    let inbox = shop.start(config());
    shop.until_all_is_acknowledged().await;
    shop.database.step_clock(time::Duration::days(365));
    let refuses = || inbox.handle.health().reasons.iter().any(|reason| matches!(reason, InboxHealthReason::Purge(_)));
    until("the purge refuses", refuses).await;
    assert_eq!(inbox.handle.stats().purged, 0);
    shop.database.step_clock(-time::Duration::days(365));
    until("the clock is believed again", || !refuses()).await;
    inbox.stop().await;
}
