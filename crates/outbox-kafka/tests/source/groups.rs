//! Members that come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outbox_core::inbox::{Consumer, Partition};

use crate::common::{DEADLINE, unique};
use crate::member::{Member, number_of};
use crate::topic::Topic;

fn group() -> Consumer {
    Consumer::new(&unique("group")).expect("a valid name")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_reaches_a_member_and_an_acknowledged_one_no_second_while_members_come_and_go() {
    let (topic, group) = (Topic::create(8).await, group());
    let source = topic.source();
    let mut members = vec![Member::join(&source, &group).await];
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut published = 0;
    let deadline = Instant::now() + 2 * DEADLINE;
    for round in 0.. {
        assert!(Instant::now() < deadline, "{} of {published} messages came", seen.len());
        if published < 6_000 {
            topic.publish_numbers(published..published + 200, 50);
            published += 200;
            match round % 6 {
                1 | 3 => members.push(Member::join(&source, &group).await),
                4 if members.len() > 1 => {
                    let leaver = members.remove(0);
                    leaver.subscription.close().await.expect("the last acknowledgements arrive");
                }
                _ => {}
            }
        } else if seen.len() == published {
            break;
        }
        for member in &mut members {
            member.acknowledges = true;
            member.turn(Duration::from_millis(30)).await.expect("the subscription lives");
            for message in member.received.drain(..) {
                *seen.entry(number_of(&message)).or_default() += 1;
            }
        }
    }
    let twice = seen.values().filter(|times| **times > 1).count();
    assert_eq!((seen.len(), twice), (published, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_never_lets_go_loses_its_partitions_after_a_time() {
    let (topic, group) = (Topic::create(2).await, group());
    let source = topic
        .builder()
        .property("session.timeout.ms", "6000")
        .property("max.poll.interval.ms", "6000")
        .build()
        .expect("a source");
    let mut one = Member::join(&source, &group).await;
    topic.publish_numbers(0..100, 10);
    one.until_received(100).await;
    let mut other = Member::join(&source, &group).await;
    let deadline = Instant::now() + DEADLINE;
    let asked = loop {
        assert!(Instant::now() < deadline, "nobody was asked for a partition");
        let asked = one.turn(Duration::from_millis(20)).await.expect("the subscription lives");
        if !asked.is_empty() {
            break asked;
        }
        other.turn(Duration::from_millis(20)).await.expect("the subscription lives");
    };
    // from here on it never asks for the next event
    other.until("the partition is handed over", |member| !member.assigned.is_empty()).await;
    assert_eq!(other.assigned.keys().cloned().collect::<Vec<Partition>>(), asked);
    let wanted = one.received.iter().filter(|message| asked.contains(&message.partition)).count();
    other.until_received(wanted).await;

    // its late acknowledgements change nothing for the new owner
    one.acknowledge_all();
    one.turn(Duration::from_secs(1)).await.expect("the subscription lives");
    let late: Vec<_> = one.acknowledged.keys().filter(|partition| asked.contains(partition)).collect();
    assert!(late.is_empty(), "committed a partition of another member: {late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_comes_back_unpaused() {
    let (topic, group) = (Topic::create(2).await, group());
    let source = topic.source();
    let mut one = Member::join(&source, &group).await;
    one.until("both partitions are assigned", |member| member.assigned.len() == 2).await;
    let partitions: Vec<Partition> = one.assigned.keys().cloned().collect();
    partitions.iter().for_each(|partition| one.subscription.pause(partition));
    let mut other = Member::join(&source, &group).await;
    let deadline = Instant::now() + DEADLINE;
    while other.assigned.is_empty() {
        assert!(Instant::now() < deadline, "no partition was handed over");
        for member in [&mut one, &mut other] {
            member.turn(Duration::from_millis(20)).await.expect("the subscription lives");
        }
    }
    let back = other.assigned.keys().next().cloned().expect("a partition");
    other.subscription.close().await.expect("close");
    one.until("the partition is back", |member| member.assigned.contains_key(&back)).await;
    topic.publish_numbers(0..50, 20);
    one.until("its messages come", |member| !member.received.is_empty()).await;
    one.turn(Duration::from_millis(300)).await.expect("the subscription lives");
    assert!(one.received.iter().all(|message| message.partition == back), "the other one is still paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_reach_the_broker_without_another_call() {
    let (topic, group) = (Topic::create(1).await, group());
    let source = topic.source();
    let mut one = Member::join(&source, &group).await;
    topic.publish_numbers(0..100, 1);
    one.until_received(100).await;
    one.acknowledge_all();
    crate::common::eventually("the offset is committed", || async {
        (crate::topic::committed(&group, &topic.name, 0).await == Some(100)).then_some(())
    })
    .await;
    drop(one);
    let mut next = Member::join(&source, &group).await;
    topic.publish_numbers(100..110, 1);
    next.until_received(10).await;
    assert_eq!(next.numbers(), (100..110).collect());
}
