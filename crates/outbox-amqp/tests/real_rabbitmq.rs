//! Delivery to a real RabbitMQ: routes, properties, returns, nacks, topology. `OUTBOX_TEST_AMQP` names one.

mod common;

use common::broker::{Observer, arguments, header, uri};
use common::{Dispatch, eventually, message, unique, with_headers};
use lapin::types::{AMQPValue, FieldTable};
use outbox_amqp::{
    AmqpTransport, AmqpTransportBuilder, Declaration, Destination, Plain, StructuredCloudEvents, Topology, Unroutable,
};
use outbox_core::ports::{Outcome, Transport};

/// One exchange for each aggregate type, which the test declares.
fn builder() -> AmqpTransportBuilder {
    AmqpTransport::builder(uri()).exchange("{aggregate_type}").routing_key("{event_type}").topology(Topology::Check)
}

fn transport() -> AmqpTransport {
    builder().build().expect("a transport")
}

async fn new_destination(name: &str) -> (Observer, String) {
    let (observer, name) = (Observer::connect().await, unique(name));
    observer.destination(&name).await;
    (observer, name)
}

fn paused(outcome: &Outcome) -> &str {
    let Outcome::RoutePaused(reason) = outcome else { panic!("not paused but {outcome:?}") };
    &reason.0
}

fn rejected(outcome: &Outcome) -> &str {
    let Outcome::Reject(reason) = outcome else { panic!("not rejected but {outcome:?}") };
    &reason.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_pauses_its_route_until_it_exists() {
    let (observer, name) = (Observer::connect().await, unique("later"));
    let first = message(&name, Some("a"), &b"1"[..]);
    let mut dispatch = Dispatch::connect(&transport()).await;
    let refused = dispatch.open_route(&first).await.unwrap_err();
    assert!(paused(&refused).contains("404 NOT_FOUND") && paused(&refused).contains(&name), "{refused:?}");

    observer.destination(&name).await;
    assert_eq!(dispatch.open_route(&first).await, Ok(()));
    dispatch.publish(&[first]).await;
    assert_eq!(observer.payloads(&name).await, [b"1"]);
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transport_declares_the_exchange_and_a_quorum_queue() {
    let (observer, name) = (Observer::connect().await, unique("declared"));
    let queue = unique("queue");
    let declaration = Declaration::new().quorum_queue(&*queue, "order.#");
    let transport = AmqpTransport::builder(uri()).exchange(&*name).topology(Topology::Declare(declaration));
    let sent = message("order", Some("a"), &b"1"[..]);
    let transport = transport.build().expect("a transport");
    let mut dispatch = Dispatch::open(&transport, &sent).await;
    dispatch.publish(&[sent]).await;
    let message = eventually("the queue has it", || observer.get(&queue)).await;
    assert_eq!((message.delivery.exchange.as_str(), message.delivery.routing_key.as_str()), (&*name, "order.placed"));

    let other = Topology::Declare(Declaration::new().exchange_kind(outbox_amqp::ExchangeKind::Direct));
    let transport = AmqpTransport::builder(uri()).exchange(&*name).topology(other).build().expect("a transport");
    let sent = message_of("order");
    let refused = Dispatch::connect(&transport).await.open_route(&sent).await.unwrap_err();
    assert!(paused(&refused).contains("406 PRECONDITION_FAILED"), "{refused:?}");
    observer.delete_exchange(&name).await;
    observer.delete_queue(&queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_the_default_exchange_is_a_queue() {
    let (observer, name) = (Observer::connect().await, unique("queue"));
    let sent = message(&name, None, &b"1"[..]);
    let builder = || AmqpTransport::builder(uri()).exchange("").routing_key("{aggregate_type}");
    let checked = builder().topology(Topology::Check).build().expect("a transport");
    let refused = Dispatch::connect(&checked).await.open_route(&sent).await.unwrap_err();
    assert!(paused(&refused).contains("404 NOT_FOUND"), "{refused:?}");

    let declared = builder().build().expect("a transport");
    Dispatch::open(&declared, &sent).await.publish(std::slice::from_ref(&sent)).await;
    Dispatch::open(&checked, &sent).await.publish(&[sent]).await;
    assert_eq!(observer.payloads(&name).await, [b"1", b"1"]);
    observer.delete_queue(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_headers_arrive() {
    let (observer, name) = new_destination("properties").await;
    let json = r#"{"amqp-priority":"7","amqp-expiration":"60000","correlation-id":"c-1","content-encoding":"gzip","note":"Grüße"}"#;
    let sent = with_headers(message(&name, Some("7"), &b"{}"[..]), json);
    let transport = builder().app_id("shop").source("/shop").build().expect("a transport");
    Dispatch::open(&transport, &sent).await.publish(std::slice::from_ref(&sent)).await;
    let arrived = observer.get(&name).await.expect("a message");
    let properties = &arrived.delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!((*properties.delivery_mode(), *properties.priority()), (Some(2), Some(7)));
    assert_eq!(text(properties.message_id()), sent.id.to_string());
    assert_eq!(text(properties.kind()), "placed");
    assert_eq!(text(properties.expiration()), "60000");
    assert_eq!(text(properties.correlation_id()), "c-1");
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!(text(properties.content_encoding()), "gzip");
    assert_eq!(text(properties.app_id()), "shop");
    assert_eq!(*properties.timestamp(), u64::try_from(sent.occurred_at.unix_timestamp()).ok());
    assert_eq!(header(&arrived, "cloudEvents_source").as_deref(), Some("/shop"));
    assert_eq!(header(&arrived, "note").as_deref(), Some("Grüße"));
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_structured_event_and_a_plain_message_arrive() {
    let (observer, name) = new_destination("encoders").await;
    let sent = message(&name, Some("7"), &b"{\"total_cents\":1250}"[..]);
    let structured = builder().encoder(StructuredCloudEvents::new("/shop")).build().expect("a transport");
    Dispatch::open(&structured, &sent).await.publish(std::slice::from_ref(&sent)).await;
    let arrived = observer.get(&name).await.expect("a message").delivery;
    let text = String::from_utf8(arrived.data).expect("text");
    assert!(text.contains(&sent.id.to_string()) && text.contains(r#""data":{"total_cents":1250}"#), "{text}");
    let content_type = arrived.properties.content_type().as_ref().map(ToString::to_string);
    assert_eq!(content_type.as_deref(), Some("application/cloudevents+json"));

    let plain = builder().encoder(Plain).build().expect("a transport");
    Dispatch::open(&plain, &sent).await.publish(std::slice::from_ref(&sent)).await;
    let arrived = observer.get(&name).await.expect("a message").delivery;
    assert_eq!((arrived.data, arrived.properties.headers()), (sent.payload.as_ref().to_vec(), &None));
    observer.delete_exchange(&name).await;
}

/// Messages of as many keys, of which each `every`th has a routing key that no queue is bound for.
fn some_unroutable(exchange: &str, count: usize, every: usize) -> (AmqpTransport, Vec<outbox_core::Message>) {
    let exchange = exchange.to_owned();
    let by_key = move |message: &outbox_core::Message| {
        let is_lost = message.content_type == "text/lost";
        Destination::new(&*exchange, if is_lost { "nowhere" } else { "somewhere" })
    };
    let messages = (0..count).map(|n| {
        let mut message = message("order", Some(&format!("key-{n}")), n.to_string().into_bytes());
        if n % every == 0 {
            message.content_type = "text/lost".to_owned();
        }
        message
    });
    let transport = AmqpTransport::builder(uri()).destination_with(by_key).topology(Topology::Check).channels(1);
    (transport.build().expect("a transport"), messages.collect())
}

async fn bound_to_somewhere(name: &str) -> (Observer, String) {
    let (observer, name) = (Observer::connect().await, unique(name));
    observer.exchange(&name).await;
    observer.queue(&name, FieldTable::default()).await;
    observer.bind(&name, &name, "somewhere").await;
    (observer, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unroutable_message_of_a_full_batch_is_found_and_no_other() {
    let (observer, name) = bound_to_somewhere("returns").await;
    for every in [2, 7, 100] {
        let (transport, messages) = some_unroutable(&name, 5_000, every);
        let mut dispatch = Dispatch::open(&transport, &messages[0]).await;
        assert_eq!(dispatch.open_route(&messages[1]).await, Ok(()));
        for (n, outcome) in dispatch.outcomes(&messages).await.into_iter().enumerate() {
            if n % every == 0 {
                let reason = paused(&outcome);
                assert!(reason.contains("312 NO_ROUTE") && reason.contains("nowhere"), "{reason}");
            } else {
                assert_eq!(outcome, Outcome::Published, "message {n}");
            }
        }
        let expected: Vec<_> = (0..5_000).filter(|n| n % every != 0).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(observer.payloads(&name).await, expected);
    }
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_message_is_rejected_when_the_policy_says_so() {
    let (observer, name) = (Observer::connect().await, unique("reject"));
    observer.exchange(&name).await;
    let transport = builder().unroutable(Unroutable::Reject).build().expect("a transport");
    let sent = message(&name, Some("a"), &b"1"[..]);
    let mut dispatch = Dispatch::open(&transport, &sent).await;
    let outcome = dispatch.outcomes(&[sent]).await.remove(0);
    assert!(rejected(&outcome).contains("no queue is bound"), "{outcome:?}");
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_queue_does_not_take_is_tried_again() {
    let (observer, name) = (Observer::connect().await, unique("full"));
    observer.exchange(&name).await;
    let limits =
        [("x-max-length", AMQPValue::LongInt(10)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    observer.queue(&name, arguments(&limits)).await;
    observer.bind(&name, &name, "#").await;
    let messages: Vec<_> =
        (0..200).map(|n| message(&name, Some(&format!("key-{n}")), n.to_string().into_bytes())).collect();
    let mut dispatch = Dispatch::open(&transport(), &messages[0]).await;
    let outcomes = dispatch.outcomes(&messages).await;
    let published = outcomes.iter().filter(|outcome| **outcome == Outcome::Published).count();
    assert_eq!(published, observer.payloads(&name).await.len(), "what is confirmed is in the queue");
    for outcome in outcomes.iter().filter(|outcome| **outcome != Outcome::Published) {
        let Outcome::Retry(reason) = outcome else { panic!("{outcome:?}") };
        assert!(reason.0.contains("nack"), "{reason}");
    }
    assert!(published < 200, "the queue was never full");
    dispatch.publish(&messages[..1]).await;
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_travel_is_rejected_before_it_is_sent_and_its_neighbours_arrive() {
    let (observer, name) = new_destination("limits").await;
    let transport = builder().max_message_bytes(1_000).build().expect("a transport");
    let good = |n: usize| message(&name, Some(&format!("good-{n}")), n.to_string().into_bytes());
    let messages = [
        good(0),
        message(&name, Some("large"), vec![b'x'; 1_001]),
        with_headers(message(&name, Some("headers"), &b""[..]), &format!(r#"{{"big":"{}"}}"#, "x".repeat(200_000))),
        good(1),
        with_headers(message(&name, Some("expiration"), &b""[..]), r#"{"amqp-expiration":"1 h"}"#),
        with_headers(message(&name, Some("priority"), &b""[..]), r#"{"amqp-priority":"-1"}"#),
        message(&name, Some("expiration"), &b"follower"[..]),
        good(2),
    ];
    let mut dispatch = Dispatch::open(&transport, &messages[0]).await;
    let outcomes = dispatch.outcomes(&messages).await;
    for (n, fault) in [(1, "max_message_bytes"), (2, "largest frame"), (4, "amqp-expiration"), (5, "amqp-priority")] {
        assert!(rejected(&outcomes[n]).contains(fault), "{:?}", outcomes[n]);
    }
    assert_eq!(outcomes[6], Outcome::NotSent);
    assert_eq!(observer.payloads(&name).await, [b"0", b"1", b"2"]);

    let long = transport_with_long_key();
    let reason = long.route(&message(&name, None, &b""[..])).unwrap_err();
    assert!(reason.0.contains("the routing key has 300 bytes, the limit is 255"), "{reason}");
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_all_that_was_sent() {
    let (observer, name) = new_destination("close").await;
    let messages: Vec<_> = (0..5_000).map(|n| message(&name, None, n.to_string().into_bytes())).collect();
    let mut dispatch = Dispatch::open(&transport(), &messages[0]).await;
    dispatch.send(&messages).await;
    dispatch.close().await;
    let expected: Vec<_> = messages.iter().map(|message| message.payload.as_ref().to_vec()).collect();
    assert_eq!(observer.payloads(&name).await, expected);
    observer.delete_exchange(&name).await;
}

fn message_of(aggregate_type: &str) -> outbox_core::Message {
    message(aggregate_type, None, &b""[..])
}

fn transport_with_long_key() -> AmqpTransport {
    let long = |_: &outbox_core::Message| Destination::new("", "k".repeat(300));
    AmqpTransport::builder(uri()).destination_with(long).build().expect("a transport")
}
