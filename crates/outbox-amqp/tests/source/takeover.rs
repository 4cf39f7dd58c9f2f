//! Several subscriptions of one queue: one is active, and what it leaves goes to the next in order.

use std::time::Duration;

use outbox_amqp::{AmqpSource, DeclaredQueue, Order};
use outbox_core::inbox::Source as _;

use crate::common::broker::uri;
use crate::common::unique;
use crate::member::{Member, consumer};
use crate::queue::TestQueue;

/// How a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Dropped,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_subscription_takes_over_in_order_when_the_active_one_goes() {
    for (queue, end) in [
        (TestQueue::quorum().await, End::Dropped),
        (TestQueue::quorum().await, End::Closed),
        (TestQueue::classic().await, End::Dropped),
        (TestQueue::classic().await, End::Closed),
    ] {
        let source = queue.builder().prefetch(50).build().expect("a source");
        let mut active = Member::join(&source).await;
        let mut next = Member::join(&source).await;
        queue.publish_numbers(0..200).await;
        active.until_received(50).await;
        next.turn(Duration::from_millis(300)).await.expect("the subscription lives");
        assert!(next.received.is_empty() && next.assigned.is_empty(), "two consumers are active");
        active.acknowledge(|number| number < 20);
        active.until_received(70).await;
        queue.until_counted(130, 50).await;
        match end {
            End::Closed => active.subscription.close().await.expect("close"),
            End::Dropped => drop(active),
        }
        while next.received.len() < 180 {
            let count = next.received.len() + 1;
            next.until_received(count).await;
            next.acknowledge(|_| true);
        }
        assert_eq!(next.numbers(), (20..200).collect::<Vec<_>>(), "{end:?}");
        assert!(next.received[..50].iter().all(|message| message.redelivered), "{end:?}");
        queue.remove().await;
    }
}

/// RabbitMQ 4 drops a message of a quorum queue when it would deliver it for the 22nd time, also after consumers that closed in good order, unless
/// the queue says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_declared_queue_keeps_its_messages_however_often_a_consumer_is_lost() {
    let queue = TestQueue::unmade(&unique("limit")).await;
    let source = AmqpSource::new(uri(), [DeclaredQueue::new(&*queue.name)]).expect("a source");
    Member::join(&source).await;
    queue.publish_numbers(0..5).await;
    for _ in 0..30 {
        Member::join(&source).await.until_received(5).await;
    }
    let mut member = Member::join(&source).await;
    member.until_received(5).await;
    assert_eq!(member.numbers(), [0, 1, 2, 3, 4]);
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_order_subscriptions_share_a_queue() {
    let queue = TestQueue::declare("quorum", false).await;
    let source = queue.builder().order(Order::None).prefetch(5).build().expect("a source");
    let (mut one, mut other) = (Member::join(&source).await, Member::join(&source).await);
    queue.publish_numbers(0..10).await;
    one.until_received(5).await;
    other.until_received(5).await;
    let mut both = [one.numbers(), other.numbers()].concat();
    both.sort_unstable();
    assert_eq!(both, (0..10).collect::<Vec<_>>());
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscribe_that_is_dropped_leaves_no_consumer_behind() {
    let queue = TestQueue::quorum().await;
    queue.publish_numbers(0..20).await;
    let source = queue.source();
    for ms in 0..40 {
        drop(tokio::time::timeout(Duration::from_millis(ms), source.subscribe(&consumer())).await);
    }
    let mut member = Member::join(&source).await;
    member.until_received(20).await;
    assert_eq!(member.numbers(), (0..20).collect::<Vec<_>>());
    queue.until_consumed_by(1).await;
    queue.remove().await;
}
