use std::time::Duration;

use outbox_core::inbox::{Acknowledging, InboxStorage as _, OrderingKey};
use outbox_core::relay::DeadLetterPolicy;
use outbox_inbox::InboxConfig;

use crate::shop::{Shop, Whim, quick, until};

#[tokio::test(start_paused = true)]
async fn a_failed_message_holds_its_key_and_the_partition_goes_on() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Fail(4)); // each attempt fails first with its batch, which burns none, then alone
    for n in 0..3 {
        shop.publish("a", n);
        shop.publish("b", n);
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("b"), [0, 1, 2]);
    assert_eq!(shop.effects_of("a"), [0; 0], "the head waits in the database, and its followers behind it");
    shop.publish("a", 3);
    until("all are through", || shop.effects_of("a").len() == 4).await;
    assert_eq!(shop.effects_of("a"), [0, 1, 2, 3]);
    until("the key is free", || inbox.handle.stats().backlog == 0).await;
    let report = inbox.stop().await;
    assert_eq!((report.stats.failed, report.stats.dead), (2, 0));
    let parked = shop.database.admin().parked_keys(&shop.consumer, None, 10).await.unwrap();
    assert!(parked.is_empty(), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn panics_and_hangs_and_swallowed_errors_are_failures() {
    for whim in [Whim::Panic(1), Whim::Hang(1), Whim::Swallow(1)] {
        let shop = Shop::new(Acknowledging::Cumulative, 1);
        shop.on("a-1", whim.clone());
        for n in 0..4 {
            shop.publish("a", n);
        }
        // whatever the batch, the whim has to come when the message is alone
        let config = InboxConfig { batch_size: 1, handler_timeout: Duration::from_secs(2), ..quick() };
        let inbox = shop.start(config);
        until("all are through", || shop.effects_of("a").len() == 4).await;
        assert_eq!(shop.effects_of("a"), [0, 1, 2, 3], "{whim:?}");
        assert_eq!(inbox.stop().await.stats.failed, 1, "{whim:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_within_a_batch_is_done_again_alone() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-7", Whim::Fail(1)); // in the batch; alone it succeeds
    for n in 0..20 {
        shop.publish("a", n);
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), (0..20).collect::<Vec<_>>());
    let stats = inbox.stop().await.stats;
    assert_eq!((stats.failed, stats.rolled_back, stats.held), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn after_max_attempts_a_message_is_dead_and_its_followers_go_on() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Fail(100));
    for n in 0..3 {
        shop.publish("a", n);
    }
    let inbox = shop.start(InboxConfig { max_attempts: 3, batch_size: 1, ..quick() });
    until("the followers are through", || shop.effects_of("a") == [1, 2]).await;
    let dead = shop.dead_letters().await;
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].attempts), (1, "attempts_exhausted", 3));
    assert_eq!(dead[0].error, "the card was refused");
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_waits_for_the_operator_and_goes_on_in_order() {
    for max_attempts in [1, 2] {
        let shop = Shop::new(Acknowledging::Cumulative, 1);
        // held messages go in one transaction first, which burns no attempt
        shop.on("a-0", Whim::Fail(if max_attempts == 1 { 1 } else { 3 }));
        for n in 0..3 {
            shop.publish("a", n);
        }
        let dead_letters = DeadLetterPolicy::ParkKey;
        let inbox = shop.start(InboxConfig { max_attempts, dead_letters, batch_size: 1, ..quick() });
        shop.until_all_is_acknowledged().await;
        until("it is dead", || inbox.handle.stats().dead_letters == 1).await;
        shop.publish("a", 3);
        shop.until_all_is_acknowledged().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(shop.effects_of("a"), [0; 0]);
        let seq = shop.dead_letters().await[0].seq;
        assert!(shop.database.admin().replay(&shop.consumer, seq).await.unwrap());
        until("all are through", || shop.effects_of("a").len() == 4).await;
        assert_eq!(shop.effects_of("a"), [0, 1, 2, 3]);
        inbox.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_holds_a_key_back() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    let key = OrderingKey::of("order", b"a");
    shop.database.admin().park(&shop.consumer, &key).await.unwrap();
    for n in 0..3 {
        shop.publish("a", n);
        shop.publish("b", n);
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    assert_eq!((shop.effects_of("a").len(), shop.effects_of("b").len()), (0, 3));
    shop.database.admin().unpark(&shop.consumer, &key).await.unwrap();
    until("the key goes on", || shop.effects_of("a") == [0, 1, 2]).await;
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_key_is_held_loses_no_order() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Fail(3));
    for n in 0..50 {
        shop.publish("a", n);
    }
    for _ in 0..20 {
        let inbox = shop.start(InboxConfig { batch_size: 4, claim_lease: Duration::from_secs(1), ..quick() });
        tokio::time::sleep(Duration::from_millis(37)).await;
        inbox.crash();
    }
    let inbox = shop.start(InboxConfig::default());
    until("all are through", || shop.effects_of("a").len() == 50).await;
    assert_eq!(shop.effects_of("a"), (0..50).collect::<Vec<_>>());
    inbox.stop().await;
}
