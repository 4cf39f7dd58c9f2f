use std::time::Duration;

use outbox_core::inbox::{Acknowledging, InboxStorage as _, Incoming, Partition};
use outbox_inbox::{InboxConfig, InboxHealthReason};

use crate::shop::{OrderPlaced, Shop, Whim, headers, until};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn config() -> InboxConfig {
    InboxConfig { retention: Some(DAY), purge_interval: Duration::from_secs(300), ..InboxConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn identities_are_forgotten_after_the_retention_and_older_messages_are_dead_letters() {
    let shop = Shop::new(Acknowledging::Individual, 1);
    let message = Incoming { timestamp: Some(shop.database.now()), ..without_a_time() };
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
async fn a_copy_of_a_dead_letter_is_a_duplicate_however_old_the_letter_is() {
    for replayed in [true, false] {
        let shop = Shop::new(Acknowledging::Individual, 1);
        shop.on("7", Whim::Fail(1));
        let message = without_a_time();
        shop.source.publish_as(message.clone());
        let inbox = shop.start(InboxConfig { max_attempts: 1, retention: Some(HOUR), ..config() });
        until("it is dead", || inbox.handle.stats().dead_letters == 1).await;
        tokio::time::sleep(3 * HOUR).await;
        shop.source.publish_as(message.clone());
        shop.until_all_is_acknowledged().await;
        let letters = shop.dead_letters().await;
        assert_eq!((letters.len(), shop.effects_of("a").len()), (1, 0), "its identity is known");

        let admin = shop.database.admin();
        if replayed {
            assert!(admin.replay(&shop.consumer, letters[0].seq).await.unwrap());
            until("it is applied", || !shop.effects_of("a").is_empty()).await;
        } else {
            assert!(admin.discard(&shop.consumer, letters[0].seq).await.unwrap());
        }
        shop.source.publish_as(message);
        shop.until_all_is_acknowledged().await;
        let applied = if replayed { &[7][..] } else { &[] };
        assert_eq!((shop.dead_letters().await.len(), shop.effects_of("a").as_slice()), (0, applied));
        assert_eq!(inbox.handle.stats().purged, 0);
        tokio::time::sleep(2 * HOUR).await;
        until("its identity is purged", || inbox.handle.stats().purged == 1).await;
        inbox.stop().await;
    }
}

/// Number 7 of key `a`, from a producer that gives its messages no time.
fn without_a_time() -> Incoming {
    let payload = serde_json::to_vec(&OrderPlaced { order: "a".to_owned(), n: 7 }).unwrap();
    Incoming {
        partition: Partition::new("order", 0),
        position: 0,
        key: None,
        headers: headers("7", "order.placed"),
        payload: Some(payload.into()),
        timestamp: None,
        redelivered: false,
    }
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
