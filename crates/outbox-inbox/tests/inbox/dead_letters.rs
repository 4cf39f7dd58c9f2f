use outbox_core::inbox::{Acknowledging, Identity, IncomingHeaders};
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, UnknownTypes};
use outbox_testkit::memory::{MemoryConnection, MemoryInbox, MemorySource};

use crate::shop::{Shop, headers, until};

#[tokio::test(start_paused = true)]
async fn what_cannot_be_processed_is_a_dead_letter_with_its_bytes_and_reason() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    let poison = b"\xff\x00poison";
    shop.source.publish("order", Some("a"), headers("1", "order.placed"), poison);
    shop.source.publish("order", Some("a"), headers("2", "order.lost"), b"{}");
    shop.source.publish("order", Some("a"), IncomingHeaders::default(), b"{}");
    let mut broken = IncomingHeaders::default();
    broken.push("ce_id", b"\xff".to_vec());
    shop.source.publish("order", Some("a"), broken, b"{}");
    shop.source.publish("order", Some("a"), headers("5", "order.placed"), &vec![b' '; 20_000]);
    shop.publish("a", 6);
    let inbox = shop.start(InboxConfig { max_message_bytes: 10_000, ..InboxConfig::default() });
    shop.until_all_is_acknowledged().await;
    assert_eq!(shop.effects_of("a"), [6], "the partition goes on");
    let dead = shop.dead_letters().await;
    let reasons: Vec<_> = dead.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["undecodable", "unknown_type", "no_id", "undecodable", "too_large"]);
    assert_eq!(dead[0].incoming.payload.as_ref().unwrap().as_ref(), poison);
    assert!(dead.iter().all(|letter| !letter.error.contains("poison")));
    assert_eq!(dead[0].identity, Identity::new("/shop", "1").ok());
    assert_eq!((dead[2].identity.clone(), dead[2].incoming.position), (None, 2));
    until("they are counted", || inbox.handle.stats().dead_letters == 5).await;
    inbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_is_skipped_or_fails_by_choice() {
    for (choice, counted) in [(UnknownTypes::Skip, "skipped"), (UnknownTypes::Fail, "failed")] {
        let shop = Shop::new(Acknowledging::Cumulative, 1);
        shop.source.publish("order", Some("a"), headers("1", "order.lost"), b"{}");
        let inbox = shop.start(InboxConfig { unknown_types: choice, ..InboxConfig::default() });
        shop.until_all_is_acknowledged().await;
        let stats = inbox.stop().await.stats;
        let skipped = if counted == "skipped" { (1, 0, 0) } else { (0, 1, 1) };
        assert_eq!((stats.skipped, stats.failed, stats.held), skipped, "{counted}");
        assert!(shop.dead_letters().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_identity_can_be_derived_and_two_sources_do_not_meet() {
    let shop = Shop::new(Acknowledging::Cumulative, 1);
    for _ in 0..3 {
        shop.source.publish("order", None, IncomingHeaders::default(), b"derived");
    }
    for source in ["/one", "/two", "/one"] {
        let mut headers = headers("same", "raw");
        headers.push("ce_source", source);
        shop.source.publish("order", None, headers, source.as_bytes());
    }
    let inbox = Inbox::builder(shop.database.clone(), "billing")
        .on_raw("order", async |conn: &mut MemoryConnection, delivery: &Delivery| {
            conn.write(format!("order-{}", delivery.payload.as_ref().len())).await?;
            Ok::<(), Failure>(())
        })
        .on_raw("raw", async |conn: &mut MemoryConnection, delivery: &Delivery| {
            conn.write(delivery.identity.source()).await?;
            Ok::<(), Failure>(())
        })
        .derive_identity(|incoming| {
            let text = std::str::from_utf8(incoming.payload.as_ref()?.as_ref()).ok()?;
            Identity::new("derived", text).ok()
        })
        .source(shop.source.clone())
        .build()
        .unwrap();
    let task = tokio::spawn(inbox.run(std::future::pending()));
    shop.until_all_is_acknowledged().await;
    let mut effects = shop.database.effects();
    effects.sort_unstable(); // without a key they have no order
    assert_eq!(effects, ["/one", "/two", "order-7"]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn an_inbox_without_a_name_or_a_handler_is_not_built() {
    let build = |name: &str| {
        let source = MemorySource::new(Acknowledging::Cumulative, 1, &["order"]);
        Inbox::builder(MemoryInbox::new(), name).source(source).build().err().map(|error| error.key)
    };
    assert_eq!(build(""), Some("consumer"));
    assert_eq!(build("billing"), Some("handlers"));
}
