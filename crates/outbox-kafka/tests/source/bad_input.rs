//! Records that nobody wants, and what the broker has of them afterwards.

use std::time::Duration;

use outbox_core::inbox::{Consumer, InboxStorage};
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxHealthReason};
use outbox_testkit::memory::{MemoryConnection, MemoryInbox};
use tokio::sync::oneshot;

use crate::common::{broker, eventually, unique};
use crate::topic::{Topic, committed};

const LARGE: usize = 10 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn poison_and_large_records_are_dead_letters_or_effects_and_the_offset_moves_on() {
    let group = Consumer::new(&unique("billing")).expect("a valid name");
    let bootstrap = broker::bootstrap();
    let name = unique("source");
    broker::create_topic(&bootstrap, &name, 1, &[("max.message.bytes", "12000000")]).await;
    let (topic, database) = (Topic::of(name, &bootstrap), MemoryInbox::new());
    let event = |id| [("ce_specversion", "1.0"), ("ce_id", id), ("ce_source", "/shop"), ("ce_type", "order.placed")];
    topic.publish("a", &[("ce_id", "1")], b"\xff\x00poison");
    topic.publish("a", &[], b"no id");
    topic.publish_tombstone("a");
    topic.publish("a", &[event("2")[0], event("2")[1], event("2")[2], ("ce_type", "order.lost")], b"{}");
    let large: Vec<u8> = (0..LARGE).map(|index| (index % 251) as u8).collect();
    topic.publish("a", &event("3"), &large);
    topic.publish("a", &event("4"), b"last");
    topic.flush();

    let apply = async |conn: &mut MemoryConnection, delivery: &Delivery| {
        conn.write(format!("{} of {} bytes", delivery.identity.id(), delivery.payload.as_ref().len())).await?;
        Ok::<(), Failure>(())
    };
    let inbox = Inbox::builder(database.clone(), group.as_str())
        .config(InboxConfig::default())
        .on_raw("order.placed", apply)
        .source(topic.source())
        .build()
        .expect("an inbox");
    let handle = inbox.handle();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(inbox.run(async move { drop(stopped.await) }));
    eventually("the offset is behind all of them", || async {
        (committed(&group, &topic.name, 0).await == Some(6)).then_some(())
    })
    .await;
    assert_eq!(database.effects(), [format!("3 of {LARGE} bytes"), "4 of 4 bytes".to_owned()]);
    let dead = database.admin().dead_letters(&group, 0, 10).await.expect("the dead letters");
    let seen: Vec<_> = dead.iter().map(|letter| (letter.reason.as_str(), letter.incoming.position)).collect();
    assert_eq!(seen, [("undecodable", 0), ("no_id", 1), ("no_id", 2), ("unknown_type", 3)]);
    assert_eq!(dead[0].incoming.payload.as_ref().map(AsRef::as_ref), Some(&b"\xff\x00poison"[..]));
    assert_eq!(dead[2].incoming.payload, None, "a tombstone stays one");
    eventually("they are seen", || async {
        (handle.health().reasons == [InboxHealthReason::DeadLetters(4)]).then_some(())
    })
    .await;
    stop.send(()).expect("the inbox still runs");
    let report = tokio::time::timeout(Duration::from_secs(30), task).await.expect("it ends").expect("no panic");
    assert!(report.expect("the inbox runs").drained);
}
