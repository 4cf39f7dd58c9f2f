//! Faults of brokers, injected into librdkafka's in-process cluster.

mod common;

use std::time::{Duration, Instant};

use common::{Dispatch, broker, message};
use outbox_core::ports::{Outcome, OutcomeSink, Reason, Transport};
use outbox_kafka::KafkaTransport;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "order";
const BROKER: i32 = 1;

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start() -> Self {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
        Self(cluster)
    }

    fn transport(&self) -> KafkaTransport {
        let transport = KafkaTransport::builder(self.0.bootstrap_servers())
            .stall_timeout(Duration::from_secs(2))
            .ask_topic_limits(false)
            .request_timeout(Duration::from_secs(5));
        transport.build().expect("a transport")
    }

    fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        self.0.request_errors(RDKafkaApiKey::Produce, errors);
    }

    fn down(&self) {
        self.0.broker_down(BROKER).expect("the broker goes down");
    }

    fn up(&self) {
        self.0.broker_up(BROKER).expect("the broker comes up");
    }

    fn values(&self) -> Vec<Vec<u8>> {
        broker::records(&self.0.bootstrap_servers(), TOPIC).into_iter().map(|record| record.value).collect()
    }
}

fn numbered(n: usize) -> outbox_core::Message {
    message(TOPIC, Some("a"), n.to_string().into_bytes())
}

async fn failed_alone(error: RDKafkaRespErr) -> (Outcome, Reason) {
    let cluster = Cluster::start();
    let mut dispatch = Dispatch::open(&cluster.transport(), TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    cluster.fail_produce(&[error]);
    let ticket = dispatch.send(&[numbered(2)]).await[0];
    let outcome = dispatch.outcome(ticket).await;
    (outcome, dispatch.lost().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_is_retried_within_the_session() {
    let cluster = Cluster::start();
    let mut dispatch = Dispatch::open(&cluster.transport(), TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    cluster.fail_produce(&[
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
    ]);
    dispatch.publish(&[numbered(2), numbered(3)]).await;
    assert_eq!(cluster.values(), [b"1", b"2", b"3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_tell_its_limits_holds_up_one_topic_only() {
    let cluster = Cluster::start();
    cluster.0.create_topic("other", 1, 1).expect("a topic");
    let transport = KafkaTransport::connect(cluster.0.bootstrap_servers()).expect("a transport");
    let dispatch = Dispatch::open(&transport, TOPIC).await;
    let start = Instant::now();
    assert_eq!(dispatch.open_route("other").await, Ok(()));
    assert!(start.elapsed() < Duration::from_secs(1), "the second topic took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_is_quarantined_before_the_session_is_lost() {
    for error in
        [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]
    {
        let (outcome, lost) = failed_alone(error).await;
        assert!(matches!(outcome, Outcome::Quarantine(_)), "{outcome:?}");
        assert!(lost.0.contains("fatal producer error"), "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_pauses_the_route_and_names_it() {
    let (outcome, _) = failed_alone(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).await;
    let Outcome::RoutePaused(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.0.contains(TOPIC) && reason.0.contains("grant"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_failed_message_are_not_published() {
    let cluster = Cluster::start();
    let mut dispatch = Dispatch::open(&cluster.transport(), TOPIC).await;
    dispatch.publish(&[numbered(0)]).await;
    cluster.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let first = dispatch.send(&[numbered(1)]).await[0];
    let followers = dispatch.send(&(2..200).map(numbered).collect::<Vec<_>>()).await;
    dispatch.lost().await;
    assert!(matches!(dispatch.reported(first), Some(Outcome::Quarantine(_))), "{:?}", dispatch.reported(first));
    assert!(followers.iter().all(|ticket| dispatch.reported(*ticket) != Some(&Outcome::Published)));
    assert_eq!(cluster.values(), [b"0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_seen_pauses_its_route() {
    let cluster = Cluster::start();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.0.topic_error(TOPIC, error).expect("the topic has an error");
    let outcome = Dispatch::connect(&cluster.transport()).await.open_route(TOPIC).await;
    assert!(matches!(outcome, Err(Outcome::RoutePaused(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_a_leader_pauses_its_route() {
    let cluster = Cluster::start();
    cluster.0.partition_leader(TOPIC, 0, None).expect("the leader goes");
    let outcome = Dispatch::connect(&cluster.transport()).await.open_route(TOPIC).await;
    let Err(Outcome::RoutePaused(reason)) = outcome else { panic!("{outcome:?}") };
    assert!(reason.0.contains("no partition has a leader"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_confirms_nothing_ends_the_session_and_is_named() {
    let cluster = Cluster::start();
    let mut dispatch = Dispatch::open(&cluster.transport(), TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    cluster.0.broker_round_trip_time(BROKER, Duration::from_secs(60)).expect("the broker hangs");
    dispatch.send(&[numbered(2), numbered(3)]).await;
    let reason = dispatch.lost().await;
    assert!(reason.0.contains("topic order partition 0 confirmed none of 2 messages"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_soon_costs_no_session() {
    let cluster = Cluster::start();
    let transport = KafkaTransport::builder(cluster.0.bootstrap_servers()).ask_topic_limits(false).build();
    let mut dispatch = Dispatch::open(&transport.expect("a transport"), TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    cluster.down();
    let ticket = dispatch.send(&[numbered(2)]).await[0];
    cluster.up();
    assert_eq!(dispatch.outcome(ticket).await, Outcome::Published);
    assert_eq!(cluster.values(), [b"1", b"2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stays_away_ends_the_session_and_another_one_delivers() {
    let cluster = Cluster::start();
    let transport = cluster.transport();
    let mut dispatch = Dispatch::open(&transport, TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    cluster.down();
    dispatch.send(&[numbered(2), numbered(3)]).await;
    dispatch.lost().await;
    drop(dispatch);

    let error = transport.connect(OutcomeSink::channel().0).await.err().expect("there is no broker").to_string();
    assert!(error.contains(&cluster.0.bootstrap_servers()), "{error}");

    cluster.up();
    let mut dispatch = Dispatch::open(&transport, TOPIC).await;
    dispatch.publish(&[numbered(2), numbered(3)]).await;
    assert_eq!(cluster.values(), [b"1", b"2", b"3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_session_sends_nothing_more_and_does_not_block() {
    let cluster = Cluster::start();
    let transport = cluster.transport();
    let mut dispatch = Dispatch::open(&transport, TOPIC).await;
    dispatch.publish(&[numbered(0)]).await;
    cluster.down();
    dispatch.send(&(1..5_000).map(numbered).collect::<Vec<_>>()).await;
    let start = Instant::now();
    drop(dispatch);
    assert!(start.elapsed() < Duration::from_millis(100), "the drop took {:?}", start.elapsed());

    cluster.up();
    let mut dispatch = Dispatch::open(&transport, TOPIC).await;
    dispatch.publish(&[numbered(1)]).await;
    assert_eq!(cluster.values(), [b"0", b"1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_to_nobody_names_the_broker_and_the_cause() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let transport = KafkaTransport::builder(nobody.to_string()).request_timeout(Duration::from_secs(1)).build();
    let transport = transport.expect("a transport");
    let error = transport.connect(OutcomeSink::channel().0).await.err().expect("nobody is there").to_string();
    assert!(error.contains(&nobody.to_string()) && error.contains("Connection refused"), "{error}");
}
