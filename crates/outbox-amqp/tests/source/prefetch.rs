//! How much comes before it is acknowledged.

use std::time::Duration;

use lapin::BasicProperties;
use outbox_core::inbox::Partition;

use crate::member::Member;
use crate::queue::TestQueue;

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_prefetch_is_unacknowledged() {
    let queue = TestQueue::quorum().await;
    let mut member = Member::join(&queue.builder().prefetch(10).build().expect("a source")).await;
    queue.publish_numbers(0..30).await;
    member.until_received(10).await;
    queue.until_counted(20, 10).await;
    member.turn(Duration::from_millis(200)).await.expect("the subscription lives");
    assert_eq!(member.numbers(), (0..10).collect::<Vec<_>>());
    member.acknowledge(|number| number == 3 || number == 7);
    member.until_received(12).await;
    queue.until_counted(18, 10).await;
    member.acknowledge(|_| true);
    queue.until_counted(8, 10).await;
    member.until_received(22).await;
    member.acknowledge(|_| true);
    member.until_received(30).await;
    assert_eq!(member.numbers(), (0..30).collect::<Vec<_>>());
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_in_any_order_and_of_nothing_leave_the_channel_open() {
    let queue = TestQueue::classic().await;
    let mut member = Member::join(&queue.source()).await;
    queue.publish_numbers(0..200).await;
    member.until_received(200).await;
    let partition = Partition::new(queue.name.as_str(), 0);
    for position in [0, -1, 201, i64::MAX, i64::MIN] {
        member.subscription.acknowledge(&partition, position); // was never delivered
    }
    for step in [7, 5, 3, 2] {
        member.acknowledge(|number| number % step == step - 1);
        queue
            .until_counted(
                0,
                (0..200).filter(|n| [7, 5, 3, 2].iter().all(|s| *s < step || n % s != s - 1)).count() as u64,
            )
            .await;
    }
    member.acknowledge(|_| true);
    queue.until_counted(0, 0).await;
    queue.publish_numbers(200..201).await;
    member.until_received(201).await;
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_many_frames_arrives_whole() {
    let queue = TestQueue::quorum().await;
    let mut member = Member::join(&queue.source()).await;
    let payload: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|n| n.to_le_bytes()[1]).collect();
    queue.publish([(BasicProperties::default(), payload.clone())]).await;
    member.until_received(1).await;
    assert!(member.received[0].payload.as_ref().is_some_and(|got| got.as_ref() == payload), "the payload differs");
    queue.remove().await;
}
