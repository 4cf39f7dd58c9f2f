//! What users and faults do to the engine that nobody wants.

use std::time::Duration;

use outbox_core::inbox::{Acknowledging, Incoming, Partition};
use outbox_core::relay::DeadLetterPolicy;
use outbox_inbox::{Decoder, Delivery, Envelope, Failure, Inbox, InboxConfig, InboxError, InvalidEnvelope, Standard};
use outbox_testkit::memory::MemoryConnection;

use crate::shop::{OrderPlaced, Shop, Whim, headers, quick, until};

struct Fragile;

impl Decoder for Fragile {
    fn decode(&self, incoming: &Incoming) -> Result<Envelope, InvalidEnvelope> {
        assert!(incoming.payload.as_ref().is_none_or(|bytes| bytes.as_ref() != b"poison"), "poison");
        Standard::default().decode(incoming)
    }
}

#[tokio::test(start_paused = true)]
async fn a_decoder_that_panics_over_a_message_does_not_stop_the_partition() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.source.publish("order", Some("a"), headers("1", "raw"), b"poison");
    shop.source.publish("order", Some("a"), Default::default(), b"poisoned");
    shop.source.publish("order", Some("a"), headers("2", "raw"), b"fine");
    let inbox = Inbox::builder(shop.database.clone(), "billing")
        .on_raw("raw", async |conn: &mut MemoryConnection, delivery: &Delivery| {
            conn.write(delivery.identity.id()).await?;
            Ok::<(), Failure>(())
        })
        .decoder(Fragile)
        .derive_identity(|_| panic!("no idea"))
        .source(shop.source.clone())
        .build()
        .unwrap();
    let task = tokio::spawn(inbox.run(std::future::pending()));
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.database.effects(), ["2"]);
    let dead: Vec<_> = shop.dead_letters().await.into_iter().map(|letter| (letter.reason, letter.error)).collect();
    let expected = ["the decoder panicked", "the function that derives identities panicked"];
    assert_eq!(dead, expected.map(|error| ("undecodable".to_owned(), error.to_owned())));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_held_message_that_cannot_be_read_any_more_keeps_its_place_and_parks_its_key() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    shop.on("a-0", Whim::Fail(3));
    shop.publish("a", 0);
    let large = OrderPlaced { order: format!("a{}", " ".repeat(20_000)), n: 1 };
    let payload = serde_json::to_vec(&large).unwrap();
    shop.source.publish("order", Some("a"), headers("a-1", "order.placed"), &payload);
    shop.publish("a", 2);
    let config = InboxConfig { batch_size: 1, dead_letters: DeadLetterPolicy::ParkKey, ..quick() };
    let inbox = shop.start(InboxConfig {
        retry: outbox_core::relay::Backoff { initial: Duration::from_secs(60), ..config.retry },
        ..config.clone()
    });
    shop.until_all_is_acknowledged().await;
    inbox.crash();
    // a release with a lower limit
    let inbox = shop.start(InboxConfig { max_message_bytes: 10_000, ..config });
    until("it is dead", || inbox.handle.stats().dead_letters == 1).await;
    assert_eq!(shop.effects_of("a"), [0], "the follower waits for the operator");
    let dead = shop.dead_letters().await;
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "too_large"));
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_position_that_could_not_be_written_down_is_written_later() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    for n in 0..10 {
        shop.publish("a", n);
    }
    let inbox = shop.start(InboxConfig::default());
    shop.until_all_is_acknowledged().await;
    shop.database.set_unavailable(true);
    tokio::time::sleep(Duration::from_secs(7)).await; // the time of writing comes and goes
    shop.database.set_unavailable(false);
    tokio::time::sleep(Duration::from_secs(15)).await;
    inbox.task.abort();
    assert!(inbox.task.await.is_err_and(|end| end.is_cancelled()));
    shop.source.reset(&shop.consumer, &Partition::new("order", 0), 4);
    let restarted = tokio::time::timeout(Duration::from_secs(60), shop.start(InboxConfig::default()).task).await;
    let ended = restarted.expect("it ends").expect("no panic");
    let Err(InboxError::WentBack { start: 4, remembered: 9, .. }) = ended else { panic!("{ended:?}") };
}
