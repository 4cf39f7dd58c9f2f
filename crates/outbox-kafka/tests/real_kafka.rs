//! What only a real Kafka can prove. `OUTBOX_TEST_KAFKA` names one with auto-creation of topics off.

mod common;

use common::{Dispatch, broker, message, unique};
use outbox_core::ports::{Outcome, Transport};
use outbox_kafka::{KafkaTransport, Plain};

fn transport() -> KafkaTransport {
    KafkaTransport::connect(broker::bootstrap()).expect("a transport")
}

async fn new_topic(name: &str) -> String {
    let topic = unique(name);
    broker::create_topic(&broker::bootstrap(), &topic, 1, &[]).await;
    topic
}

fn values(topic: &str) -> Vec<Vec<u8>> {
    broker::records(&broker::bootstrap(), topic).into_iter().map(|record| record.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_pauses_its_route_until_it_exists() {
    let topic = unique("later");
    let mut dispatch = Dispatch::connect(&transport()).await;
    let Err(Outcome::RoutePaused(reason)) = dispatch.open_route(&topic).await else { panic!("the route is open") };
    assert!(reason.0.contains(&topic) && reason.0.contains("create the topic"), "{reason}");

    broker::create_topic(&broker::bootstrap(), &topic, 1, &[]).await;
    assert_eq!(dispatch.open_route(&topic).await, Ok(()));
    dispatch.publish(&[message(&topic, Some("a"), &b"1"[..])]).await;
    assert_eq!(values(&topic), [b"1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_topic_takes_is_rejected_before_it_is_sent() {
    let topic = new_topic("small").await;
    broker::set_max_message_bytes(&broker::bootstrap(), &topic, 1_010_000).await;
    let mut dispatch = Dispatch::open(&transport(), &topic).await;
    let tickets = dispatch
        .send(&[
            message(&topic, Some("a"), vec![b'x'; 1_010_000]),
            message(&topic, Some("a"), &b"follower"[..]),
            message(&topic, Some("b"), &b"other key"[..]),
        ])
        .await;
    let Outcome::Reject(reason) = dispatch.outcome(tickets[0]).await else { panic!("not rejected") };
    assert!(reason.0.contains("max.message.bytes of the topic is 1010000"), "{reason}");
    assert_eq!(dispatch.outcome(tickets[1]).await, Outcome::NotSent);
    assert_eq!(dispatch.outcome(tickets[2]).await, Outcome::Published);
    assert_eq!(values(&topic), [b"other key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_that_is_computed_is_the_size_that_the_broker_measures() {
    let topic = new_topic("exact").await;
    let limit = 1_010_000;
    broker::set_max_message_bytes(&broker::bootstrap(), &topic, limit).await;
    let mut dispatch = Dispatch::open(&transport(), &topic).await;
    let (mut taken, mut refused) = (limit - 2_000, limit);
    while refused - taken > 1 {
        let size = taken.midpoint(refused);
        let ticket = dispatch.send(&[message(&topic, Some("a"), vec![b'x'; size])]).await[0];
        match dispatch.outcome(ticket).await {
            // A size that is under the limit here and over it there would lose the session.
            Outcome::Published => taken = size,
            Outcome::Reject(_) => refused = size,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(values(&topic).iter().map(Vec::len).max(), Some(taken));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_only_the_broker_refuses_is_quarantined_and_nothing_overtakes_it() {
    let topic = new_topic("shrunk").await;
    let mut dispatch = Dispatch::open(&transport(), &topic).await;
    dispatch.publish(&[message(&topic, Some("a"), &b"first"[..])]).await;
    broker::set_max_message_bytes(&broker::bootstrap(), &topic, 20_000).await;

    let follower = |n: u8| message(&topic, Some("a"), vec![n; 10]);
    let tickets =
        dispatch.send(&[message(&topic, Some("a"), vec![b'x'; 30_000]), follower(2), follower(3), follower(4)]).await;
    let lost = dispatch.lost().await;
    assert!(
        matches!(dispatch.reported(tickets[0]), Some(Outcome::Quarantine(_))),
        "{:?}: {lost}",
        dispatch.reported(tickets[0])
    );
    for ticket in &tickets[1..] {
        assert!(!matches!(dispatch.reported(*ticket), Some(Outcome::Published)), "a follower overtook");
    }
    assert_eq!(values(&topic), [b"first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_broker_refuses_first_and_alone_on_a_fresh_producer_leaves_nothing_behind() {
    let topic = new_topic("fresh").await;
    let transport = transport();
    let mut dispatch = Dispatch::open(&transport, &topic).await;
    broker::set_max_message_bytes(&broker::bootstrap(), &topic, 20_000).await;
    let ticket = dispatch.send(&[message(&topic, Some("a"), vec![b'x'; 30_000])]).await[0];
    assert!(matches!(dispatch.outcome(ticket).await, Outcome::Quarantine(_)));
    dispatch.lost().await;

    // The next session learns the new limit, makes smaller batches, and goes on with the followers.
    let refused = Dispatch::connect(&transport).await.open_route(&topic).await;
    assert!(matches!(refused, Err(Outcome::SessionLost(_))), "{refused:?}");
    let mut dispatch = Dispatch::open(&transport, &topic).await;
    let ticket = dispatch.send(&[message(&topic, Some("a"), vec![b'x'; 30_000])]).await[0];
    assert!(matches!(dispatch.outcome(ticket).await, Outcome::Reject(_)));
    dispatch.publish(&[message(&topic, Some("a"), &b"2"[..])]).await;
    assert_eq!(values(&topic), [b"2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_never_make_a_batch_that_the_topic_refuses() {
    let topic = new_topic("narrow").await;
    broker::set_max_message_bytes(&broker::bootstrap(), &topic, 5_000).await;
    let transport = transport();
    assert!(matches!(Dispatch::connect(&transport).await.open_route(&topic).await, Err(Outcome::SessionLost(_))));
    let mut dispatch = Dispatch::open(&transport, &topic).await;
    dispatch.publish(&[message(&topic, Some("a"), &b"first"[..])]).await;
    let messages: Vec<_> = (0..2_000).map(|_| message(&topic, Some("a"), vec![b'x'; 300])).collect();
    for ticket in dispatch.send(&messages).await {
        assert_eq!(dispatch.outcome(ticket).await, Outcome::Published);
    }
    assert_eq!(values(&topic).len(), 2_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_name_that_kafka_does_not_take_is_no_route() {
    let reason = transport().route(&message("my orders", None, &b""[..])).unwrap_err();
    assert!(reason.0.contains("my orders"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_record_has_an_id_and_no_cloud_event() {
    let topic = new_topic("plain").await;
    let transport = KafkaTransport::builder(broker::bootstrap()).encoder(Plain).build().expect("a transport");
    let mut dispatch = Dispatch::open(&transport, &topic).await;
    let sent = message(&topic, None, &b"{}"[..]);
    dispatch.publish(std::slice::from_ref(&sent)).await;
    let record = broker::records(&broker::bootstrap(), &topic).remove(0);
    assert_eq!(record.headers, [("id".to_owned(), sent.id.to_string())].into());
    assert_eq!((record.key, record.value), (None, b"{}".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_all_that_was_sent_and_dropping_does_not() {
    let topic = new_topic("close").await;
    let mut dispatch = Dispatch::open(&transport(), &topic).await;
    let messages: Vec<_> = (0..5_000).map(|n| message(&topic, Some("a"), n.to_string().into_bytes())).collect();
    dispatch.publish(&messages[..1]).await;
    dispatch.send(&messages[1..]).await;
    dispatch.close().await;
    let expected: Vec<_> = messages.iter().map(|message| message.payload.as_ref().to_vec()).collect();
    assert_eq!(values(&topic), expected);
}
