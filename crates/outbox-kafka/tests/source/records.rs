//! What a record looks like to the inbox.

use outbox_core::inbox::Consumer;
use time::OffsetDateTime;

use crate::common::unique;
use crate::member::Member;
use crate::topic::Topic;

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_no_empty_payload_and_a_record_has_its_time() {
    let (topic, group) = (Topic::create(1).await, Consumer::new(&unique("group")).expect("a valid name"));
    topic.publish_tombstone("a");
    topic.publish("a", &[], b"");
    topic.flush();
    let mut member = Member::join(&topic.source(), &group).await;
    member.until_received(2).await;
    assert_eq!(member.received[0].payload, None);
    assert_eq!(member.received[0].headers.get("nothing"), Some(&b""[..]));
    assert_eq!(member.received[1].payload.as_ref().map(|payload| payload.as_ref().len()), Some(0));
    let age = OffsetDateTime::now_utc() - member.received[0].timestamp.expect("a time");
    assert!(age.abs() < time::Duration::minutes(5), "{age}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_may_wait_at_once_all_come() {
    let (topic, group) = (Topic::create(1).await, Consumer::new(&unique("group")).expect("a valid name"));
    let large = vec![b'x'; 900_000];
    for _ in 0..40 {
        topic.publish("a", &[], &large);
    }
    topic.flush();
    let mut member = Member::join(&topic.source(), &group).await;
    member.until_received(40).await;
    assert!(member.received.iter().all(|message| message.payload.as_ref().is_some_and(|it| it.as_ref() == large)));
}
