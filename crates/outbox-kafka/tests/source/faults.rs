//! Faults of brokers, injected into librdkafka's in-process cluster.

use std::time::{Duration, Instant};

use outbox_core::inbox::Consumer;
use outbox_kafka::KafkaSource;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::member::Member;
use crate::topic::Topic;

const TOPIC: &str = "order";
const BROKER: i32 = 1;

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start() -> Self {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
        Self(cluster)
    }

    fn topic(&self) -> Topic {
        Topic::of(TOPIC.to_owned(), &self.0.bootstrap_servers())
    }

    fn source(&self) -> KafkaSource {
        KafkaSource::new(self.0.bootstrap_servers(), [TOPIC]).expect("a source")
    }
}

fn group() -> Consumer {
    Consumer::new("billing").expect("a valid name")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_waited_for() {
    let cluster = Cluster::start();
    let topic = cluster.topic();
    let mut member = Member::join(&cluster.source(), &group()).await;
    topic.publish_numbers(0..10, 1);
    member.until_received(10).await;
    cluster.0.broker_down(BROKER).expect("the broker goes down");
    member.acknowledge_all();
    member.turn(Duration::from_secs(2)).await.expect("the subscription waits");
    cluster.0.broker_up(BROKER).expect("the broker comes up");
    topic.publish_numbers(10..20, 1);
    member.until("the rest comes", |member| member.numbers() == (0..20).collect()).await;
    member.acknowledge_all();
    member.until_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_subscription_of_a_broker_that_is_away_does_not_block() {
    let cluster = Cluster::start();
    let mut member = Member::join(&cluster.source(), &group()).await;
    cluster.topic().publish_numbers(0..10, 1);
    member.until_received(10).await;
    cluster.0.broker_down(BROKER).expect("the broker goes down");
    member.acknowledge_all();
    let start = Instant::now();
    drop(member);
    // whoever waits for the broker waits for a request to time out, or for a session
    assert!(start.elapsed() < Duration::from_secs(2), "the drop took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_without_a_broker_says_that_acknowledgements_are_lost() {
    let cluster = Cluster::start();
    let source = KafkaSource::builder(cluster.0.bootstrap_servers(), [TOPIC]).request_timeout(Duration::from_secs(2));
    let mut member = Member::join(&source.build().expect("a source"), &group()).await;
    cluster.topic().publish_numbers(0..10, 1);
    member.until_received(10).await;
    cluster.0.broker_down(BROKER).expect("the broker goes down");
    member.acknowledge_all();
    let error = member.subscription.close().await.expect_err("nobody takes them").to_string();
    assert!(error.contains("their messages come again"), "{error}");
}
