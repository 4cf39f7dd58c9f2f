//! Queues that exist or not, with what order needs or without.

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use outbox_amqp::{AmqpSource, DeclaredQueue, Order};
use outbox_core::inbox::SourceErrorKind;

use crate::common::broker::{Observer, rabbitmqctl, uri};
use crate::common::unique;
use crate::member::{Member, refusal};
use crate::queue::TestQueue;

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_single_active_consumer_is_refused_where_order_is_asked_for() {
    for kind in ["classic", "quorum"] {
        let queue = TestQueue::declare(kind, false).await;
        let error = refusal(&queue.source()).await;
        assert_eq!(error.kind(), SourceErrorKind::Refused);
        assert!(error.to_string().contains("it has no x-single-active-consumer"), "{error}");
        for order in [Order::Trusted, Order::None] {
            Member::join(&queue.builder().order(order).build().expect("a source")).await;
        }
        queue.remove().await;
    }
}

/// What the broker tells of them is enough to ask for the one that matters.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_active_consumer_is_found_among_other_arguments() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let common = [
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-expires", AMQPValue::LongInt(600_000)),
        ("x-max-length", AMQPValue::LongInt(1_000)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(5_000_000_000)),
        ("x-dead-letter-exchange", text("it's dead")),
        ("x-dead-letter-routing-key", text("")),
    ];
    let classic = [("x-message-ttl", AMQPValue::LongInt(60_000)), ("x-max-priority", AMQPValue::ShortShortInt(3))];
    let quorum = [("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongInt(50))];
    for own in [&classic, &quorum] {
        let queue = TestQueue::unmade(&unique("source")).await;
        queue.make(&[&common[..], own].concat()).await;
        let mut member = Member::join(&queue.source()).await;
        queue.publish_numbers(0..3).await;
        member.until_received(3).await;
        queue.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_refused_and_not_made() {
    for order in [Order::SingleActiveConsumer, Order::Trusted, Order::None] {
        let name = unique("missing");
        let source = AmqpSource::builder(uri(), [&*name]).order(order).build().expect("a source");
        for _ in 0..2 {
            let error = refusal(&source).await;
            assert_eq!(error.kind(), SourceErrorKind::Refused);
            let error = error.to_string();
            assert!(
                error.contains("404 NOT_FOUND") && error.contains(&name) && error.contains("declare it"),
                "{error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_queue_gets_what_order_needs_and_its_bindings() {
    let (name, exchange) = (unique("declared"), unique("exchange"));
    let declared = || {
        let queue = DeclaredQueue::new(&*name).bind(&*exchange, "order.#").bind(&*exchange, "invoice.*");
        queue.argument("x-delivery-limit", 50).argument("x-expires", 600_000)
    };
    let source = AmqpSource::new(uri(), [declared()]).expect("a source");
    let mut member = Member::join(&source).await;
    Member::join(&source).await; // declaring again changes nothing
    let queue = TestQueue::unmade(&name).await;
    for (number, routing_key) in ["order.placed", "invoice.paid"].into_iter().enumerate() {
        let message = (BasicProperties::default(), number.to_string().into_bytes());
        queue.publish_to(&exchange, routing_key, [message]).await;
    }
    member.until_received(2).await;
    assert_eq!(member.numbers(), [0, 1]);
    Member::join(&queue.source()).await; // it has a single active consumer

    let other = AmqpSource::new(uri(), [declared().argument("x-delivery-limit", 20)]).expect("a source");
    let error = refusal(&other).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("406 PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit'"), "{error}");
    queue.remove().await;
    Observer::connect().await.delete_exchange(&exchange).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_declared_of_either_type_with_defaults() {
    for kind in [None, Some("classic")] {
        let queue = TestQueue::unmade(&unique("declared")).await;
        let declared = DeclaredQueue::new(&*queue.name);
        let declared = match kind {
            Some(kind) => declared.argument("x-queue-type", kind),
            None => declared,
        };
        let mut member = Member::join(&AmqpSource::new(uri(), [declared]).expect("a source")).await;
        queue.publish_numbers(0..1).await;
        member.until_received(1).await;
        queue.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_queues_are_several_partitions_of_one_subscription() {
    let (orders, invoices) = (TestQueue::quorum().await, TestQueue::classic().await);
    let source = AmqpSource::builder(uri(), [&*orders.name, &*invoices.name]).prefetch(20).build().expect("a source");
    let mut member = Member::join(&source).await;
    orders.publish_numbers(0..100).await;
    invoices.publish_numbers(100..103).await;
    member.until("the other queue is not held up", |member| member.numbers().ends_with(&[102])).await;
    let partition = |queue: &TestQueue| outbox_core::inbox::Partition::new(queue.name.as_str(), 0);
    member.subscription.pause(&partition(&orders));
    member.acknowledge(|_| true);
    invoices.publish_numbers(103..105).await;
    member.until("the other queue goes on", |member| member.numbers().contains(&104)).await;
    member.subscription.resume(&partition(&orders));
    while member.received.len() < 105 {
        let count = member.received.len() + 1;
        member.until_received(count).await;
        member.acknowledge(|_| true);
    }
    let of_orders: Vec<_> = member.numbers().into_iter().filter(|number| *number < 100).collect();
    assert_eq!(of_orders, (0..100).collect::<Vec<_>>());
    assert_eq!(member.assigned, [partition(&orders), partition(&invoices)].into());
    orders.remove().await;
    invoices.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_are_missing_are_named() {
    let (queue, user) = (TestQueue::quorum().await, unique("user"));
    rabbitmqctl(&["add_user", &user, "pass"]);
    let grant =
        |configure: &str, read: &str| rabbitmqctl(&["set_permissions", "-p", "/", &user, configure, "^$", read]);
    let source = |order| {
        let builder = AmqpSource::builder(uri(), [&*queue.name]).credentials(&*user, "pass");
        builder.order(order).build().expect("a source")
    };

    grant("^$", ".*"); // may read, and not declare
    let error = refusal(&source(Order::SingleActiveConsumer)).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    let text = error.to_string();
    assert!(
        text.contains("403 ACCESS_REFUSED") && text.contains("configure") && text.contains("Order::Trusted"),
        "{text}"
    );
    let mut member = Member::join(&source(Order::Trusted)).await;
    queue.publish_numbers(0..1).await;
    member.until_received(1).await;
    drop(member);

    grant("^$", "^$");
    let error = refusal(&source(Order::Trusted)).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("403 ACCESS_REFUSED") && error.to_string().contains("read"), "{error}");
    rabbitmqctl(&["delete_user", &user]);
    queue.remove().await;
}
