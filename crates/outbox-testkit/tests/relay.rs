//! How the relay behaves between the in-memory storage and transport, on paused time.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::ports::{
    LaneOrdering, Outcome, OutcomeSink, Reason, RouteName, Session, Storage, Transport, TransportError,
};
use outbox_core::relay::{DeadLetterPolicy, HealthReason, HealthStatus, RelayReport};
use outbox_core::{Message, NewMessage, Relay, RelayConfig, RelayHandle};
use outbox_testkit::memory::{MemoryStorage, MemoryTransport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest virtual time that a condition may take.
const PATIENCE: Duration = Duration::from_secs(120);

struct Running {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<RelayReport>,
}

fn start(storage: &MemoryStorage, transport: &MemoryTransport, config: RelayConfig) -> Running {
    let relay =
        Relay::builder(storage.clone(), transport.clone()).config(config).build().expect("a valid configuration");
    let handle = relay.handle();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let shutdown = async move { drop(stopped.await) };
        relay.run(shutdown).await.expect("the relay runs")
    });
    Running { handle, stop, task }
}

impl Running {
    async fn stop(self) -> RelayReport {
        self.stop.send(()).expect("the relay still runs");
        self.task.await.expect("the relay does not panic")
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("this never came true: {what}"));
}

fn append(storage: &MemoryStorage, topic: &str, key: &str, n: u32) {
    let message = NewMessage::new(topic, "happened", n.to_string().into_bytes()).aggregate_id(key);
    storage.append(&message).expect("a valid message");
}

fn numbers(transport: &MemoryTransport, topic: &str, key: &str) -> Vec<u32> {
    let of_key =
        |message: &&outbox_testkit::memory::PublishedMessage| message.message.aggregate_id.as_deref() == Some(key);
    let number = |message: &outbox_testkit::memory::PublishedMessage| {
        std::str::from_utf8(message.message.payload.as_ref()).unwrap().parse().unwrap()
    };
    transport.published_to(topic).iter().filter(of_key).map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_delivered_in_order_and_removed() {
    let (storage, transport) = (MemoryStorage::new(4), MemoryTransport::new());
    for n in 0..500 {
        append(&storage, "order", &format!("k{}", n % 7), n);
    }
    let relay =
        start(&storage, &transport, RelayConfig { batch_size: 50, max_in_flight: 120, ..RelayConfig::default() });
    until("everything is settled", || storage.pending().is_empty()).await;
    assert_eq!(relay.handle.health().status, HealthStatus::Healthy, "{:?}", relay.handle.health());
    let report = relay.stop().await;
    assert!(report.drained);
    assert_eq!((report.stats.published, report.stats.settled), (500, 500));
    for key in 0..7 {
        let expected: Vec<u32> = (0..500).filter(|n| n % 7 == key).collect();
        assert_eq!(numbers(&transport, "order", &format!("k{key}")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_holds_its_key_and_nobody_else() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    transport.fail_next(1, Outcome::Retry(Reason::new("not now")));
    for n in 0..3 {
        append(&storage, "order", "a", n);
    }
    append(&storage, "order", "b", 9);
    let relay = start(&storage, &transport, RelayConfig::default());
    until("the other key is through", || numbers(&transport, "order", "b") == [9]).await;
    assert_eq!(numbers(&transport, "order", "a"), [0; 0], "the head waits, and its followers behind it");
    until("all are through", || storage.pending().is_empty()).await;
    assert_eq!(numbers(&transport, "order", "a"), [0, 1, 2]);
    assert_eq!(relay.handle.stats().retried, 1);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_max_attempts_a_message_is_dead_and_its_followers_go_on() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    transport.fail_next(3, Outcome::Retry(Reason::new("never")));
    for n in 0..3 {
        append(&storage, "order", "a", n);
    }
    let relay = start(&storage, &transport, RelayConfig { max_attempts: 3, ..RelayConfig::default() });
    until("the followers are through", || storage.pending().is_empty()).await;
    assert_eq!(numbers(&transport, "order", "a"), [1, 2]);
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].attempts), (1, "attempts_exhausted", 3));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_waits_for_the_operator_and_goes_on_in_order() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    transport.fail_next(1, Outcome::Reject(Reason::new("no")));
    for n in 0..3 {
        append(&storage, "order", "a", n);
    }
    append(&storage, "order", "b", 9);
    let config = RelayConfig { dead_letters: DeadLetterPolicy::ParkKey, ..RelayConfig::default() };
    let relay = start(&storage, &transport, config);
    until("the other key is through", || numbers(&transport, "order", "b") == [9]).await;
    until("the message is dead", || relay.handle.stats().dead == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(numbers(&transport, "order", "a"), [0; 0]);
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert!(storage.admin().replay(dead[0].position.id).await.unwrap());
    until("all are through", || storage.pending().is_empty()).await;
    assert_eq!(numbers(&transport, "order", "a"), [0, 1, 2]);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_pauses_its_route_burns_no_attempt_and_shows_in_health() {
    let (storage, transport) = (MemoryStorage::new(2), MemoryTransport::new().with_declared_topics_only());
    transport.declare_topic("order");
    for n in 0..50 {
        append(&storage, "typo", &format!("t{}", n % 3), n);
        append(&storage, "order", &format!("k{}", n % 3), n);
    }
    let relay = start(&storage, &transport, RelayConfig { max_in_flight: 20, ..RelayConfig::default() });
    until("the good topic is through", || transport.published_to("order").len() == 50).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let health = relay.handle.health();
    let paused = |reason: &HealthReason| matches!(reason, HealthReason::RoutePaused(name, _) if &**name == "typo");
    assert!(health.reasons.iter().any(paused), "{health:?}");
    assert!(storage.pending().iter().all(|message| message.attempts == 0));
    transport.declare_topic("typo");
    until("the other one is through", || storage.pending().is_empty()).await;
    for key in 0..3 {
        let expected: Vec<u32> = (0..50).filter(|n| n % 3 == key).collect();
        assert_eq!(numbers(&transport, "typo", &format!("t{key}")), expected);
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_message_that_fails_alone_is_rejected_after_an_error_that_names_none() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    for n in 0..20 {
        append(&storage, "order", "a", n);
    }
    let relay = start(&storage, &transport, RelayConfig::default());
    until("the first ones are through", || storage.pending().is_empty()).await;
    transport.fail_next(5, Outcome::Quarantine(Reason::new("a batch was refused")));
    for n in 20..30 {
        append(&storage, "order", "a", n);
    }
    until("all are through", || storage.pending().is_empty()).await;
    let dead = storage.admin().dead_letters(0, 10).await.unwrap().len();
    let mut expected: Vec<u32> = (0..30).collect();
    let delivered = numbers(&transport, "order", "a");
    expected.retain(|n| delivered.contains(n));
    assert_eq!(delivered, expected, "in order");
    assert_eq!(delivered.len() + dead, 30);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_loses_nothing_and_keeps_the_order() {
    let (storage, transport) = (MemoryStorage::new(4), MemoryTransport::new());
    transport.set_delay(Duration::from_millis(20));
    for n in 0..300 {
        append(&storage, "order", &format!("k{}", n % 5), n);
    }
    let relay =
        start(&storage, &transport, RelayConfig { batch_size: 20, max_in_flight: 60, ..RelayConfig::default() });
    for lost in 1..=5 {
        let sent = transport.published().len();
        until("more is sent", || transport.published().len() > sent).await;
        transport.lose_sessions("the connection is gone");
        until("the relay noticed", || relay.handle.stats().lost_sessions >= lost).await;
    }
    until("all are through", || storage.pending().is_empty()).await;
    for key in 0..5 {
        let mut first: Vec<u32> = Vec::new();
        for n in numbers(&transport, "order", &format!("k{key}")) {
            if !first.contains(&n) {
                first.push(n);
            }
        }
        assert_eq!(first, (0..300).filter(|n| n % 5 == key).collect::<Vec<_>>());
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_at_the_start_is_waited_for() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    transport.stop();
    append(&storage, "order", "a", 1);
    let relay = start(&storage, &transport, RelayConfig::default());
    until("health says so", || matches!(relay.handle.health().reasons[..], [HealthReason::Broker(_), ..])).await;
    transport.start();
    until("it is through", || storage.pending().is_empty()).await;
    until("health is good again", || relay.handle.health().status == HealthStatus::Healthy).await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_waited_for() {
    let (storage, transport) = (MemoryStorage::new(2), MemoryTransport::new());
    storage.set_unavailable(true);
    let relay = start(&storage, &transport, RelayConfig::default());
    until("health says so", || matches!(relay.handle.health().reasons[..], [HealthReason::Database(_), ..])).await;
    storage.set_unavailable(false);
    append(&storage, "order", "a", 1);
    until("it is through", || storage.pending().is_empty()).await;
    storage.set_unavailable(true);
    append(&storage, "order", "a", 2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    storage.set_unavailable(false);
    until("it is through after an outage", || storage.pending().is_empty()).await;
    assert_eq!(numbers(&transport, "order", "a"), [1, 2]);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_relays_with_one_name_share_the_shards_and_a_leaving_one_hands_them_over() {
    let (storage, transport) = (MemoryStorage::new(8), MemoryTransport::new());
    let first = start(&storage, &transport, RelayConfig::default());
    until("the first owns all", || first.handle.stats().owned_shards == 8).await;
    let second = start(&storage, &transport, RelayConfig::default());
    until("they share", || first.handle.stats().owned_shards == 4 && second.handle.stats().owned_shards == 4).await;
    for n in 0..200 {
        append(&storage, "order", &format!("k{}", n % 20), n);
    }
    until("all are through", || storage.pending().is_empty()).await;
    assert!(first.handle.stats().published > 0 && second.handle.stats().published > 0);
    assert_eq!(transport.published().len(), 200);
    second.stop().await;
    until("the first owns all again", || first.handle.stats().owned_shards == 8).await;
    assert_eq!(first.handle.stats().lost_leases, 0);
    first.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crashed_relays_shards_are_taken_within_the_lease_and_a_heartbeat() {
    let (storage, transport) = (MemoryStorage::new(8), MemoryTransport::new());
    let config = RelayConfig { lease_duration: Duration::from_secs(4), ..RelayConfig::default() };
    let first = start(&storage, &transport, config.clone());
    let second = start(&storage, &transport, config);
    until("they share", || first.handle.stats().owned_shards == 4 && second.handle.stats().owned_shards == 4).await;
    let crash = tokio::time::Instant::now();
    first.task.abort();
    until("the second owns all", || second.handle.stats().owned_shards == 8).await;
    assert!(crash.elapsed() <= Duration::from_secs(5), "{:?}", crash.elapsed());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_nudge_wakes_the_relay_before_its_poll() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    let config = RelayConfig {
        polling_interval: Duration::from_secs(600),
        sweep_interval: Duration::from_secs(3600),
        ..RelayConfig::default()
    };
    let relay = start(&storage, &transport, config);
    tokio::time::sleep(Duration::from_secs(3000)).await;
    append(&storage, "order", "a", 1);
    let appended = tokio::time::Instant::now();
    relay.handle.nudge();
    until("it is through", || storage.pending().is_empty()).await;
    assert!(appended.elapsed() < Duration::from_millis(100), "{:?}", appended.elapsed());
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_message_goes_when_it_is_due() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    let due = storage.now() + time::Duration::seconds(30);
    storage.append(&NewMessage::new("order", "later", b"1".to_vec()).aggregate_id("a").available_at(due)).unwrap();
    append(&storage, "order", "a", 2);
    let relay = start(&storage, &transport, RelayConfig::default());
    until("the follower is through", || numbers(&transport, "order", "a") == [2]).await;
    until("the scheduled one is through", || numbers(&transport, "order", "a") == [2, 1]).await;
    assert!(storage.now() >= due);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_what_is_in_flight_and_stops_reading() {
    let (storage, transport) = (MemoryStorage::new(2), MemoryTransport::new());
    transport.set_delay(Duration::from_millis(200));
    for n in 0..400 {
        append(&storage, "order", &format!("k{}", n % 20), n);
    }
    let relay =
        start(&storage, &transport, RelayConfig { batch_size: 50, max_in_flight: 100, ..RelayConfig::default() });
    until("some are in flight", || relay.handle.stats().in_flight > 50).await;
    let report = relay.stop().await;
    assert!(report.drained);
    assert_eq!(report.stats.published, report.stats.settled);
    assert_eq!(usize::try_from(report.stats.published).unwrap(), transport.published().len(), "no duplicate");
    assert_eq!(storage.pending().len() + transport.published().len(), 400);
    let second = start(&storage, &transport, RelayConfig::default());
    until("the rest follows at once: the shards were given back", || storage.pending().is_empty()).await;
    second.stop().await;
}

#[tokio::test]
async fn an_absurd_configuration_is_refused_with_the_key_and_what_is_allowed() {
    let config = RelayConfig { max_attempts: 0, ..RelayConfig::default() };
    let built =
        Relay::builder_from(Arc::new(MemoryStorage::new(1)), Arc::new(MemoryTransport::new())).config(config).build();
    let error = built.err().expect("zero attempts are absurd").to_string();
    assert_eq!(error, "max_attempts is 0: it must be 1 to 1000");
}

/// Has no place for messages of the type `nowhere`.
struct Choosy(MemoryTransport);

#[async_trait::async_trait]
impl Transport for Choosy {
    fn lane_ordering(&self) -> LaneOrdering {
        self.0.lane_ordering()
    }

    fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        if message.aggregate_type == "nowhere" { Err(Reason::new("no such place")) } else { self.0.route(message) }
    }

    async fn connect(&self, sink: OutcomeSink) -> Result<Box<dyn Session>, TransportError> {
        self.0.connect(sink).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_no_route_is_dead_without_an_attempt_and_the_rest_goes_on() {
    let (storage, transport) = (MemoryStorage::new(1), MemoryTransport::new());
    append(&storage, "nowhere", "a", 0);
    append(&storage, "order", "b", 1);
    let relay = Relay::builder(storage.clone(), Choosy(transport.clone())).build().expect("a valid configuration");
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(relay.run(async move { drop(stopped.await) }));
    until("nothing is left", || storage.pending().is_empty()).await;
    assert_eq!(numbers(&transport, "order", "b"), [1]);
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].attempts), (1, "rejected", 0));
    drop(stop);
    task.await.expect("the relay does not panic").expect("the relay runs");
}
