//! Handlers whose connection is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outbox_core::inbox::Acknowledging;
use outbox_inbox::{InboxConfig, Mode};

use crate::shop::{Shop, Whim, quick, until};

fn strict(mode: Mode) -> InboxConfig {
    InboxConfig { mode, max_attempts: 1, ..quick() }
}

fn publish_three(shop: &Shop) {
    for n in 0..3 {
        shop.publish("a", n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_no_attempt() {
    for mode in [Mode::Transactional, Mode::Durable] {
        for whim in [Whim::Lose(4), Whim::LoseAndPanic(4)] {
            let shop = Shop::new(Acknowledging::Cumulative, 1);
            shop.on("a-0", whim.clone()); // once with its batch, three times alone
            publish_three(&shop);
            let inbox = shop.start(strict(mode));
            until("all are through", || shop.effects_of("a").len() == 3).await;
            assert_eq!(shop.effects_of("a"), [0, 1, 2], "{mode:?} {whim:?}");
            let stats = inbox.stop().await.stats;
            assert_eq!((stats.failed, stats.dead), (0, 0), "{mode:?} {whim:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_every_connection_does_not_block_its_key_for_ever() {
    for mode in [Mode::Transactional, Mode::Durable] {
        let shop = Shop::new(Acknowledging::Cumulative, 1);
        shop.on("a-0", Whim::Lose(1_000));
        publish_three(&shop);
        let inbox = shop.start(strict(mode));
        until("the followers are through", || shop.effects_of("a") == [1, 2]).await;
        let dead = shop.dead_letters().await;
        assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].attempts), (1, "attempts_exhausted", 1), "{mode:?}");
        assert!(dead[0].error.contains("connection to the database was lost"), "{}", dead[0].error);
        assert_eq!(inbox.stop().await.stats.failed, 1, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_message_is_blamed_although_its_claim_runs_out_between_the_losses() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::LoseSlowly(1_000));
    publish_three(&shop);
    let inbox = shop.start(InboxConfig { claim_lease: Duration::from_millis(1_500), ..strict(Mode::Durable) });
    until("the followers are through", || shop.effects_of("a") == [1, 2]).await;
    assert_eq!(shop.dead_letters().await.len(), 1);
    let calls = shop.calls.load(Ordering::Relaxed);
    assert!(calls <= 12, "{calls} calls of the handler");
    assert_eq!(inbox.stop().await.stats.failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_after_a_lost_connection_is_waited_for_and_the_health_says_so() {
    for mode in [Mode::Transactional, Mode::Durable] {
        let shop = Shop::new(Acknowledging::Cumulative, 1);
        shop.on("a-0", Whim::Lose(3));
        publish_three(&shop);
        let mut config = strict(mode);
        config.reconnect.initial = Duration::from_secs(1);
        let inbox = shop.start(config);
        until("the connection is lost", || shop.calls.load(Ordering::Relaxed) > 0).await;
        shop.database.set_unavailable(true);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let health = inbox.handle.health();
        assert!(health.reasons.iter().any(|reason| reason.to_string().starts_with("database")), "{health:?}");
        shop.database.set_unavailable(false);
        until("all are through", || shop.effects_of("a") == [0, 1, 2]).await;
        let stats = inbox.stop().await.stats;
        assert_eq!((stats.failed, stats.dead), (0, 0), "{mode:?}");
    }
}
