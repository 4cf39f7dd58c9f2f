//! What was published arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::inbox::{Consumer, SourceErrorKind};
use tokio::time::timeout;

use super::member::{Subject, number_of};
use super::{Published, SourceFixture};
use crate::case::{Case, cases, chain};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    every_message_arrives_once_in_the_order_of_its_key,
    a_message_arrives_as_it_was_published,
    next_may_be_dropped_at_any_time,
    a_paused_partition_waits_until_it_is_resumed,
    messages_that_were_published_before_the_first_subscription_arrive,
];

pub(super) async fn an_unreachable_broker_is_unavailable(fixture: &dyn SourceFixture) {
    let source = fixture.unreachable().await.unwrap_or_else(|error| panic!("unreachable: {}", chain(&*error)));
    let consumer = Consumer::new("suite").expect("a valid name");
    // some clients connect in the background: then the subscription itself ends, or never tells anything
    match timeout(Duration::from_secs(60), source.subscribe(&consumer)).await.expect("an answer in time") {
        Err(error) => assert_eq!(error.kind(), SourceErrorKind::Unavailable, "{}", chain(&error)),
        Ok(mut subscription) => match timeout(Duration::from_secs(10), subscription.next()).await {
            Ok(Err(error)) => assert_eq!(error.kind(), SourceErrorKind::Unavailable, "{}", chain(&error)),
            Ok(Ok(event)) => panic!("nothing can be told: {event:?}"),
            Err(_) => {}
        },
    }
}

async fn every_message_arrives_once_in_the_order_of_its_key(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..500).await;
    member.until_received(500).await;
    member.for_a_while(Duration::from_millis(300)).await;
    assert_eq!(member.numbers(), (0..500).collect::<Vec<_>>());
    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for message in &member.received {
        by_key.entry(number_of(message) % 10).or_default().push(number_of(message));
    }
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "a key is out of order");
    if subject.is_cumulative() {
        assert!(member.assigned.len() >= 2, "the stream has one partition only");
    }
}

async fn a_message_arrives_as_it_was_published(subject: &Subject) {
    let headers = [
        ("ce_id", "1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("note", "Grüße \"\\ 🚀"),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let binary = Published { key: "ключ 7".to_owned(), headers, payload: (0..=255).collect() };
    let empty = Published { key: "b".to_owned(), headers: Vec::new(), payload: Vec::new() };
    let mut member = subject.join().await;
    subject.stream.publish(&[binary.clone(), empty.clone()]).await.expect("publish");
    member.until_received(2).await;
    for published in [binary, empty] {
        let payload = |message: &&outbox_core::inbox::Incoming| {
            message.payload.as_ref().map(|payload| payload.as_ref().to_vec()).unwrap_or_default() == published.payload
        };
        let message = member.received.iter().find(payload).expect("the payload arrives byte for byte");
        assert_eq!(*message.partition.stream, *subject.stream.name());
        for (name, value) in &published.headers {
            assert_eq!(message.headers.get(name), Some(value.as_bytes()), "header {name}");
        }
        assert!(!message.redelivered);
        if subject.is_cumulative() {
            assert_eq!(message.key.as_ref().map(|key| key.as_ref()), Some(published.key.as_bytes()));
        }
    }
}

async fn next_may_be_dropped_at_any_time(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..300).await;
    member.until("a partition is assigned", |member| !member.assigned.is_empty()).await;
    let mut drops = 0;
    while member.received.len() < 300 {
        match timeout(Duration::from_micros(500), member.subscription.next()).await {
            Ok(event) => member.note(event.expect("the subscription lives")),
            Err(_) if drops < 5_000 => drops += 1,
            Err(_) => member.until_received(300).await,
        }
    }
    assert_eq!(member.numbers(), (0..300).collect::<Vec<_>>());
}

async fn a_paused_partition_waits_until_it_is_resumed(subject: &Subject) {
    let mut member = subject.join().await;
    subject.publish(0..20).await;
    member.until_received(20).await;
    let partitions: Vec<_> = member.assigned.keys().cloned().collect();
    partitions.iter().for_each(|partition| member.subscription.pause(partition));
    member.for_a_while(Duration::from_millis(200)).await;
    subject.publish(20..1_020).await;
    member.for_a_while(Duration::from_secs(1)).await;
    let came = member.received.len() - 20;
    assert!(came <= subject.stream.prefetch(), "{came} messages came through a pause");
    partitions.iter().for_each(|partition| member.subscription.resume(partition));
    member.acknowledge_all(); // a full prefetch moves on by acknowledgements
    while member.received.len() < 1_020 {
        let count = member.received.len() + 1;
        member.until_received(count).await;
        member.acknowledge_all();
    }
    assert_eq!(member.numbers(), (0..1_020).collect::<Vec<_>>());
}

async fn messages_that_were_published_before_the_first_subscription_arrive(subject: &Subject) {
    subject.publish(0..50).await;
    let mut member = subject.join().await;
    member.until_received(50).await;
    assert_eq!(member.numbers(), (0..50).collect::<Vec<_>>());
}
