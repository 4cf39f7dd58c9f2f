//! What is sent arrives: all of it, once, in order, as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use outbox_core::message::{Headers, Message, Payload};
use outbox_core::ports::Outcome;

use super::TransportFixture;
use super::dispatch::{Dispatch, fixed, message, new_destination, received};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<dyn TransportFixture>] = cases![dyn TransportFixture:
    every_message_gets_one_outcome_and_arrives_once,
    messages_of_one_key_arrive_in_order_in_one_partition,
    a_message_arrives_as_it_was_sent,
    a_message_without_a_key_arrives_without_a_key,
    an_empty_payload_arrives_empty,
    a_binary_payload_arrives_byte_for_byte,
    a_route_depends_on_the_message_alone,
    a_key_keeps_its_slot_for_the_whole_session,
    slots_of_two_routes_differ,
    messages_of_two_routes_arrive_at_their_own,
    sending_nothing_is_no_error,
    ten_thousand_messages_in_flight_all_arrive,
];

async fn every_message_gets_one_outcome_and_arrives_once(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let keyed = (0..400).map(|n| message(&destination, Some(&format!("key-{}", n % 40)), n));
    let messages: Vec<_> = keyed.chain((400..500).map(|n| message(&destination, None, n))).map(Arc::new).collect();
    dispatch.publish(&messages).await;
    let Dispatch { session, mut ledger, .. } = dispatch;
    session.close().await;
    assert_eq!(ledger.open_now().await, 0); // and no second outcome has come meanwhile, which the ledger sees
    let arrived: Vec<_> = received(fixture, &destination, 500).await.into_iter().map(|message| message.id).collect();
    assert_eq!(arrived.len(), 500, "a message arrived twice");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), messages.iter().map(|message| message.id).collect());
}

async fn messages_of_one_key_arrive_in_order_in_one_partition(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let messages: Vec<_> =
        (0..1_000).map(|n| Arc::new(message(&destination, Some(&format!("key-{}", n % 10)), n))).collect();
    dispatch.publish(&messages).await;
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in received(fixture, &destination, 1_000).await {
        by_key.entry(message.key.clone()).or_default().push(message);
    }
    assert_eq!(by_key.len(), 10);
    for (key, arrived) in by_key {
        let expected: Vec<_> = messages.iter().filter(|message| message.aggregate_id == key).map(|m| m.id).collect();
        assert_eq!(arrived.iter().map(|message| message.id).collect::<Vec<_>>(), expected, "out of order: {key:?}");
        assert!(arrived.iter().all(|message| message.partition == arrived[0].partition), "two partitions: {key:?}");
    }
}

async fn a_message_arrives_as_it_was_sent(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let own = BTreeMap::from([
        ("traceparent".to_owned(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ("note".to_owned(), "Grüße \"quoted\" \\ 🚀".to_owned()),
    ]);
    let mut sent = message(&destination, Some("ключ 7"), 0);
    sent.payload = Payload::from(br#"{"total_cents":1250}"#.to_vec());
    sent.event_type = "order.placed".to_owned();
    sent.content_type = "application/vnd.shop+json".to_owned();
    sent.headers = Headers::from_map(&own);
    dispatch.publish(&[Arc::new(sent.clone())]).await;
    let arrived = received(fixture, &destination, 1).await.remove(0);
    assert_eq!(arrived.id, sent.id);
    assert_eq!(arrived.key, sent.aggregate_id);
    assert_eq!(arrived.event_type, sent.event_type);
    assert_eq!(arrived.content_type, sent.content_type);
    assert_eq!(arrived.payload, sent.payload.as_ref());
    for (name, value) in own {
        assert_eq!(arrived.headers.get(&name), Some(&value), "header {name}");
    }
}

async fn a_message_without_a_key_arrives_without_a_key(fixture: &dyn TransportFixture) {
    let arrived = one(fixture, |message| message.aggregate_id = None).await;
    assert_eq!(arrived.key, None);
}

async fn an_empty_payload_arrives_empty(fixture: &dyn TransportFixture) {
    let arrived = one(fixture, |message| message.payload = Payload::default()).await;
    assert!(arrived.payload.is_empty());
}

async fn a_binary_payload_arrives_byte_for_byte(fixture: &dyn TransportFixture) {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let arrived = one(fixture, |message| message.payload = Payload::from(bytes.clone())).await;
    assert_eq!(arrived.payload, bytes);
}

async fn a_route_depends_on_the_message_alone(fixture: &dyn TransportFixture) {
    let transport = fixed(fixture.transport().await);
    let (one, other) = (new_destination(fixture).await, new_destination(fixture).await);
    let first = message(&one, Some("a"), 0);
    let route = transport.route(&first).expect("a route");
    assert_eq!(transport.route(&first).expect("a route"), route);
    assert_ne!(transport.route(&message(&other, Some("a"), 0)).expect("a route"), route);
}

async fn a_key_keeps_its_slot_for_the_whole_session(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let slots = |dispatch: &mut Dispatch| -> HashMap<String, _> {
        let keys = (0..50).map(|n| format!("key-{n}"));
        keys.map(|key| {
            let slot = dispatch.outgoing(&Arc::new(message(&destination, Some(&key), 0))).slot;
            (key, slot)
        })
        .collect()
    };
    let before = slots(&mut dispatch);
    let messages: Vec<_> = (0..50).map(|n| Arc::new(message(&destination, Some(&format!("key-{n}")), n))).collect();
    dispatch.publish(&messages).await;
    dispatch.open(&destination).await;
    assert_eq!(slots(&mut dispatch), before);
}

async fn slots_of_two_routes_differ(fixture: &dyn TransportFixture) {
    let (mut dispatch, one) = Dispatch::with_destination(fixture).await;
    let other = new_destination(fixture).await;
    dispatch.open(&other).await;
    let mut slots = |destination: &str| -> BTreeSet<_> {
        let messages = (0..50).map(|n| Arc::new(message(destination, Some(&format!("key-{n}")), n)));
        messages.map(|message| dispatch.outgoing(&message).slot).collect()
    };
    assert!(slots(&one).is_disjoint(&slots(&other)), "two routes share a slot number");
}

async fn messages_of_two_routes_arrive_at_their_own(fixture: &dyn TransportFixture) {
    let (mut dispatch, one) = Dispatch::with_destination(fixture).await;
    let other = new_destination(fixture).await;
    dispatch.open(&other).await;
    let messages: Vec<_> =
        (0..60).map(|n| Arc::new(message(if n % 3 == 0 { &one } else { &other }, Some("a"), n))).collect();
    dispatch.publish(&messages).await;
    for (destination, count) in [(&one, 20), (&other, 40)] {
        let expected: Vec<_> = messages.iter().filter(|m| m.aggregate_type == *destination).map(|m| m.id).collect();
        let arrived = received(fixture, destination, count).await;
        assert_eq!(arrived.iter().map(|message| message.id).collect::<Vec<_>>(), expected);
    }
}

async fn sending_nothing_is_no_error(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    dispatch.send(Vec::new()).await;
    dispatch.publish(&[Arc::new(message(&destination, Some("a"), 0))]).await;
    assert_eq!(received(fixture, &destination, 1).await.len(), 1);
}

async fn ten_thousand_messages_in_flight_all_arrive(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let first: Vec<_> = (0..200).map(|n| Arc::new(message(&destination, Some(&format!("first-{n}")), n))).collect();
    dispatch.publish(&first).await; // every slot has had its first message, as the relay would see to it
    let messages: Vec<_> = (0..10_000).map(|n| Arc::new(message(&destination, Some(&format!("key-{n}")), n))).collect();
    let outgoing: Vec<_> = messages.iter().map(|message| dispatch.outgoing(message)).collect();
    let tickets: Vec<_> = outgoing.iter().map(|outgoing| outgoing.ticket).collect();
    dispatch.send(outgoing).await;
    for ticket in tickets {
        assert_eq!(dispatch.ledger.outcome(ticket).await, Outcome::Published);
    }
    let arrived = received(fixture, &destination, 10_200).await;
    assert_eq!(arrived.iter().map(|message| message.id).collect::<BTreeSet<_>>().len(), 10_200);
}

async fn one(fixture: &dyn TransportFixture, change: impl FnOnce(&mut Message)) -> super::Received {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let mut sent = message(&destination, Some("a"), 0);
    change(&mut sent);
    dispatch.publish(&[Arc::new(sent)]).await;
    received(fixture, &destination, 1).await.remove(0)
}
