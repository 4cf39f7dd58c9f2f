//! What is acknowledged does not come again, and what is not does.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::inbox::Partition;

use super::member::{Member, Subject, number_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    what_was_acknowledged_before_a_close_does_not_come_again,
    what_was_not_acknowledged_comes_again_after_a_close,
    a_dropped_subscription_acknowledges_nothing_more,
    the_broker_s_own_word_on_acknowledgements_is_told,
    a_partition_starts_at_its_first_unacknowledged_message,
    calls_that_name_a_strange_partition_are_ignored,
];

async fn what_was_acknowledged_before_a_close_does_not_come_again(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..100).await;
    member.until_received(100).await;
    member.acknowledge_all();
    member.subscription.close().await.expect("close");
    subject.publish(100..110).await;
    let mut next = subject.join().await;
    next.until_received(10).await;
    next.for_a_while(Duration::from_millis(300)).await;
    assert_eq!(next.numbers(), (100..110).collect::<Vec<_>>());
}

async fn what_was_not_acknowledged_comes_again_after_a_close(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..100).await;
    member.until_received(100).await;
    let acknowledged = acknowledge_half(&mut member);
    member.subscription.close().await.expect("close");
    let mut next = subject.join().await;
    let expected: Vec<_> = (0..100).filter(|n| !acknowledged.contains(n)).collect();
    next.until_received(expected.len()).await;
    next.for_a_while(Duration::from_millis(300)).await;
    assert_eq!(next.numbers(), expected);
}

async fn a_dropped_subscription_acknowledges_nothing_more(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..50).await;
    member.until_received(50).await;
    drop(member);
    let mut next = subject.join().await;
    next.until_received(50).await;
    assert_eq!(next.numbers(), (0..50).collect::<Vec<_>>());
}

async fn the_broker_s_own_word_on_acknowledgements_is_told(subject: &Subject) {
    if !subject.is_cumulative() {
        return; // each by itself: positions mean nothing outside of their assignment, and nothing is remembered
    }
    let mut member = subject.join().await;
    subject.publish(0..100).await;
    member.until_received(100).await;
    member.acknowledge_all();
    let expected: BTreeMap<Partition, i64> =
        member.received.iter().map(|message| (message.partition.clone(), message.position)).collect();
    member.until("the acknowledgements are durable", |member| member.acknowledged == expected).await;
}

async fn a_partition_starts_at_its_first_unacknowledged_message(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..100).await;
    member.until_received(100).await;
    acknowledge_half(&mut member);
    member.subscription.close().await.expect("close");
    let mut next = subject.join().await;
    next.until_received(1).await;
    next.for_a_while(Duration::from_millis(500)).await;
    for (partition, start) in &next.starts {
        let first = next.received.iter().find(|message| message.partition == *partition);
        match (subject.is_cumulative(), start, first) {
            (true, Some(start), Some(first)) => assert_eq!(*start, first.position, "{partition}"),
            (true, _, _) => {}
            (false, start, _) => assert_eq!(*start, None, "positions mean nothing here"),
        }
    }
}

async fn calls_that_name_a_strange_partition_are_ignored(subject: &Subject) {
    let mut member = subject.join().await;
    let strange = Partition::new("no such stream", 77);
    for _ in 0..2 {
        member.subscription.acknowledge(&strange, 5);
        member.subscription.pause(&strange);
        member.subscription.resume(&strange);
        subject.publish(0..5).await;
    }
    member.until_received(10).await;
}

/// Acknowledges the first half of what came of each partition; returns its numbers.
fn acknowledge_half(member: &mut Member) -> Vec<usize> {
    let mut by_partition: BTreeMap<Partition, Vec<(i64, usize)>> = BTreeMap::new();
    for message in &member.received {
        by_partition.entry(message.partition.clone()).or_default().push((message.position, number_of(message)));
    }
    let mut acknowledged = Vec::new();
    for (partition, messages) in by_partition {
        for (position, number) in &messages[..messages.len() / 2] {
            member.subscription.acknowledge(&partition, *position);
            acknowledged.push(*number);
        }
    }
    acknowledged
}
