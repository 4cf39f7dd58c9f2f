//! The whole way: a storage, the relay, RabbitMQ, a consumer.

mod common;

use std::collections::BTreeMap;

use common::broker::{Observer, header, rabbitmqctl, uri};
use common::running::{Running, append, everything_is_settled};
use common::unique;
use lapin::types::{AMQPValue, FieldTable};
use outbox_amqp::{
    AmqpTransport, AmqpTransportBuilder, CloudEvents, Declaration, Destination, Encoder, Publication, Topology,
    Unroutable,
};
use outbox_core::Message;
use outbox_core::relay::HealthReason;
use outbox_testkit::memory::MemoryStorage;

fn builder() -> AmqpTransportBuilder {
    AmqpTransport::builder(uri()).exchange("{aggregate_type}").routing_key("all").topology(Topology::Check)
}

/// The numbers that arrived, by key, in the order of the queue.
async fn numbers(observer: &Observer, queue: &str) -> BTreeMap<String, Vec<usize>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in observer.drain(queue).await {
        let number = std::str::from_utf8(&message.delivery.data).expect("text").parse().expect("a number");
        by_key.entry(header(&message, "cloudEvents_subject").expect("a key")).or_default().push(number);
    }
    by_key
}

/// Drops what came a second time: duplicates are allowed after a fault.
fn first_deliveries(numbers: Vec<usize>) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    numbers.into_iter().filter(|number| seen.insert(*number)).collect()
}

fn of_key(key: usize, keys: usize, count: usize) -> Vec<usize> {
    (0..count).filter(|n| n % keys == key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_arrives_once_and_in_order_per_key() {
    let (observer, name) = (Observer::connect().await, unique("backlog"));
    observer.destination(&name).await;
    let storage = MemoryStorage::new(8);
    for n in 0..10_000 {
        append(&storage, &name, &format!("{}", n % 97), n);
    }
    let relay = Running::start(&storage, builder().build().expect("a transport"));
    everything_is_settled(&storage).await;
    relay.is_healthy().await;
    let report = relay.stop().await;
    assert!(report.drained);
    assert_eq!((report.stats.published, report.stats.settled), (10_000, 10_000));
    let numbers = numbers(&observer, &name).await;
    for key in 0..97 {
        assert_eq!(numbers[&key.to_string()], of_key(key, 97, 10_000), "key {key}");
    }
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_route_waits_for_its_binding_and_burns_no_attempt() {
    let (observer, name) = (Observer::connect().await, unique("unbound"));
    observer.exchange(&name).await;
    observer.queue(&name, FieldTable::default()).await;
    let storage = MemoryStorage::new(4);
    for n in 0..500 {
        append(&storage, &name, &format!("{}", n % 7), n);
    }
    let relay = Running::start(&storage, builder().build().expect("a transport"));
    let reason = relay.health_says(|reason| matches!(reason, HealthReason::RoutePaused(..))).await;
    assert!(reason.contains("no queue is bound to exchange"), "{reason}");
    assert!(storage.pending().iter().all(|message| message.attempts == 0));
    assert_eq!(relay.handle.stats().published, 0);

    observer.bind(&name, &name, "#").await;
    everything_is_settled(&storage).await;
    relay.is_healthy().await;
    assert_eq!(relay.stop().await.stats.published, 500);
    let numbers = numbers(&observer, &name).await;
    for key in 0..7 {
        assert_eq!(numbers[&key.to_string()], of_key(key, 7, 500), "key {key}");
    }
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unroutable_key_in_a_hundred_becomes_dead_letters_by_policy_and_is_never_published() {
    let (observer, name) = (Observer::connect().await, unique("policy"));
    observer.exchange(&name).await;
    observer.queue(&name, FieldTable::default()).await;
    observer.bind(&name, &name, "somewhere").await;
    let exchange = name.clone();
    let by_key = move |message: &Message| {
        let is_lost = message.aggregate_id.as_deref() == Some("13");
        Destination::new(&*exchange, if is_lost { "nowhere" } else { "somewhere" })
    };
    let storage = MemoryStorage::new(8);
    for n in 0..10_000 {
        append(&storage, "order", &format!("{}", n % 100), n);
    }
    let transport = AmqpTransport::builder(uri()).destination_with(by_key).topology(Topology::Check);
    let relay = Running::start(&storage, transport.unroutable(Unroutable::Reject).build().expect("a transport"));
    everything_is_settled(&storage).await;
    let stats = relay.stop().await.stats;
    assert_eq!((stats.published, stats.dead), (9_900, 100));
    let numbers = numbers(&observer, &name).await;
    assert_eq!(numbers.len(), 99);
    for key in (0..100).filter(|key| *key != 13) {
        assert_eq!(numbers[&key.to_string()], of_key(key, 100, 10_000), "key {key}");
    }
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_broker_refuses_becomes_the_only_dead_letter() {
    let (observer, name) = (Observer::connect().await, unique("quarantine"));
    observer.destination(&name).await;
    let storage = MemoryStorage::new(4);
    for n in 0..300 {
        append(&storage, &name, &format!("{}", n % 50), n);
    }
    let transport = builder().encoder(TooLarge).max_message_bytes(usize::MAX).build().expect("a transport");
    let relay = Running::start(&storage, transport);
    everything_is_settled(&storage).await;
    let stats = relay.stop().await.stats;
    assert_eq!((stats.published, stats.dead), (299, 1), "{stats:?}");
    let numbers = numbers(&observer, &name).await;
    for key in 0..50 {
        let mut expected = of_key(key, 50, 300);
        expected.retain(|n| *n != 123);
        assert_eq!(first_deliveries(numbers[&key.to_string()].clone()), expected, "key {key}");
    }
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_full_and_emptied_again_gets_everything_in_order() {
    let (observer, name) = (Observer::connect().await, unique("full"));
    observer.exchange(&name).await;
    let limits =
        [("x-max-length", AMQPValue::LongInt(100)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    observer.queue(&name, common::broker::arguments(&limits)).await;
    observer.bind(&name, &name, "#").await;
    let storage = MemoryStorage::new(4);
    for n in 0..300 {
        append(&storage, &name, &format!("{}", n % 40), n);
    }
    let relay = Running::start(&storage, builder().build().expect("a transport"));
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let deadline = tokio::time::Instant::now() + common::DEADLINE;
    loop {
        let is_over = storage.pending().is_empty();
        for (key, mut arrived) in numbers(&observer, &name).await {
            by_key.entry(key).or_default().append(&mut arrived);
        }
        if is_over {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} messages are pending", storage.pending().len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let stats = relay.stop().await.stats;
    assert_eq!((stats.published, stats.dead), (300, 0), "{stats:?}");
    for key in 0..40 {
        assert_eq!(
            first_deliveries(by_key.remove(&key.to_string()).expect("a key")),
            of_key(key, 40, 300),
            "key {key}"
        );
    }
    observer.delete_exchange(&name).await;
}

/// A policy of this test alone, cleared with this value.
struct Policy(String);

impl Policy {
    fn limit(queue: &str, max_length: usize) -> Self {
        let definition = format!(r#"{{"max-length": {max_length}, "overflow": "reject-publish"}}"#);
        rabbitmqctl(&["set_policy", queue, &format!("^{queue}$"), &definition, "--apply-to", "queues"]);
        Self(queue.to_owned())
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        rabbitmqctl(&["clear_policy", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_whose_limit_was_taken_away_gets_the_rest_through_the_same_connection() {
    let (observer, name) = (Observer::connect().await, unique("unlimited"));
    let policy = Policy::limit(&name, 10);
    let storage = MemoryStorage::new(4);
    for n in 0..50 {
        append(&storage, &name, &format!("{}", n % 20), n);
    }
    // an exclusive queue, as the others here are, cannot be a quorum queue
    let declared = Topology::Declare(Declaration::new().quorum_queue(&name, "#"));
    let relay = Running::start(&storage, builder().topology(declared).build().expect("a transport"));
    common::eventually("the queue is full and refuses", || async {
        append(&storage, &name, "20", 50);
        (relay.handle.stats().retried > 0).then_some(())
    })
    .await;
    drop(policy); // nobody consumes from the queue: it holds more than the limit was
    everything_is_settled(&storage).await;
    let stats = relay.stop().await.stats;
    assert_eq!(stats.dead, 0, "{stats:?}");
    for (key, arrived) in numbers(&observer, &name).await {
        let expected = if key == "20" { vec![50] } else { of_key(key.parse().expect("a number"), 20, 50) };
        assert_eq!(first_deliveries(arrived), expected, "key {key}");
    }
    rabbitmqctl(&["delete_queue", &name]);
    observer.delete_exchange(&name).await;
}

/// Makes one message larger than any RabbitMQ takes.
struct TooLarge;

impl Encoder for TooLarge {
    fn encode(&self, message: &Message, publication: &mut Publication) {
        CloudEvents::new("/test").encode(message, publication);
        if message.payload.as_ref() == b"123" {
            publication.body(vec![b'x'; 128 * 1024 * 1024 + 1]);
        }
    }
}
