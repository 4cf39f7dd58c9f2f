//! Where partitions start.

use outbox_core::inbox::{Consumer, Source as _, SourceErrorKind};
use outbox_kafka::{KafkaSource, StartAt};

use crate::common::{broker, eventually, unique};
use crate::member::Member;
use crate::topic::{Topic, commit};

fn group() -> Consumer {
    Consumer::new(&unique("group")).expect("a valid name")
}

async fn starts_of(source: &KafkaSource, group: &Consumer) -> Vec<Option<i64>> {
    let mut member = Member::join(source, group).await;
    member.until("the partition is assigned", |member| !member.assigned.is_empty()).await;
    let starts = member.assigned.values().copied().collect();
    member.subscription.close().await.expect("close");
    starts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_offsets_starts_where_it_is_told() {
    let topic = Topic::create(1).await;
    topic.publish_numbers(0..10, 1);
    assert_eq!(starts_of(&topic.source(), &group()).await, [Some(0)]);
    let latest = topic.builder().start_at(StartAt::Latest).build().expect("a source");
    assert_eq!(starts_of(&latest, &group()).await, [Some(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_was_whatever_it_is_told() {
    let (topic, group) = (Topic::create(1).await, group());
    topic.publish_numbers(0..10, 1);
    let mut member = Member::join(&topic.source(), &group).await;
    member.until_received(10).await;
    member.subscription.acknowledge(&member.received[3].partition.clone(), 3);
    member.subscription.close().await.expect("close");
    let latest = topic.builder().start_at(StartAt::Latest).build().expect("a source");
    assert_eq!(starts_of(&latest, &group).await, [Some(4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_anew_starts_visibly_below() {
    let (topic, group) = (Topic::create(1).await, group());
    topic.publish_numbers(0..10, 1);
    let mut member = Member::join(&topic.source(), &group).await;
    member.until_received(10).await;
    member.acknowledge_all();
    member.until_committed().await;

    member.subscription.close().await.expect("close");

    // Kafka forgets the offsets of a topic that it deletes; a group that kept them (a restored one) is made by hand
    let bootstrap = broker::bootstrap();
    broker::delete_topic(&bootstrap, &topic.name).await;
    eventually("the topic can be created again", || async {
        broker::try_create_topic(&bootstrap, &topic.name).await.then_some(())
    })
    .await;
    commit(&group, &topic.name, 10).await;
    let anew = Topic::of(topic.name.clone(), &bootstrap);
    anew.publish_numbers(0..3, 1);
    let starts = starts_of(&anew.source(), &group).await;
    assert_eq!(starts, [Some(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_with_its_name() {
    let name = unique("nobody");
    let source = KafkaSource::new(broker::bootstrap(), [&*name]).expect("a source");
    let error = source.subscribe(&group()).await.err().expect("there is no such topic");
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains(&name) && error.to_string().contains("create the topic"), "{error}");
}
