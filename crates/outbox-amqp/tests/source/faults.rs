//! A broker that ends connections and consumers, and one that does not let them in.

use std::time::Duration;

use outbox_amqp::{AmqpSource, AmqpSourceBuilder};
use outbox_core::inbox::SourceErrorKind;

use crate::common::broker::{uri, variable, with_vhost};
use crate::common::unique;
use crate::member::{Member, number_of, refusal};
use crate::queue::{TestQueue, kill_connection};

fn build(builder: AmqpSourceBuilder) -> AmqpSource {
    builder.build().expect("a source")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_brings_back_what_was_not_acknowledged_and_says_so() {
    let (queue, name) = (TestQueue::quorum().await, unique("victim"));
    let source = build(queue.builder().connection_name(&*name));
    let mut member = Member::join(&source).await;
    queue.publish_numbers(0..40).await;
    member.until_received(40).await;
    member.acknowledge(|number| number < 10 || number % 2 == 0);
    queue.until_counted(0, 15).await;
    kill_connection(&name).await;
    let error = member.until_lost().await;
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert!(error.to_string().contains("320") && error.to_string().contains("for a test"), "{error}");
    member.acknowledge(|_| true); // of a connection that is gone

    let mut again = Member::join(&source).await;
    queue.publish_numbers(40..50).await;
    again.until_received(25).await;
    let expected: Vec<_> = (10..40).filter(|number| number % 2 == 1).chain(40..50).collect();
    assert_eq!(again.numbers(), expected);
    assert!(again.received.iter().all(|message| message.redelivered == (number_of(message) < 40)));
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_subscription_hears_that_its_connection_is_gone() {
    let (queue, name) = (TestQueue::classic().await, unique("victim"));
    let mut member = Member::join(&build(queue.builder().connection_name(&*name))).await;
    queue.publish_numbers(0..5).await;
    member.until_received(5).await;
    let partition = member.received[0].partition.clone();
    member.subscription.pause(&partition);
    kill_connection(&name).await;
    queue.publish_numbers(5..6).await; // the broker has given everything back
    member.acknowledge(|_| true);
    let error = member.until_lost().await.to_string();
    assert!(error.contains("320"), "{error}");
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_without_a_connection_says_that_acknowledgements_are_lost() {
    let (queue, name) = (TestQueue::classic().await, unique("victim"));
    let mut member = Member::join(&build(queue.builder().connection_name(&*name))).await;
    queue.publish_numbers(0..5).await;
    member.until_received(5).await;
    kill_connection(&name).await;
    member.acknowledge(|_| true);
    let error = member.subscription.close().await.expect_err("nobody takes them");
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_ends_the_subscription_and_is_missed_afterwards() {
    for queue in [TestQueue::classic().await, TestQueue::quorum().await] {
        let source = queue.source();
        let mut member = Member::join(&source).await;
        queue.publish_numbers(0..3).await;
        member.until_received(3).await;
        queue.remove().await;
        let error = member.until_lost().await;
        assert_eq!(error.kind(), SourceErrorKind::Unavailable);
        assert!(error.to_string().contains("has cancelled the consumer"), "{error}");
        member.acknowledge(|_| true);
        let error = refusal(&source).await;
        assert_eq!(error.kind(), SourceErrorKind::Refused);
        assert!(error.to_string().contains("404 NOT_FOUND"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_virtual_hosts_are_refused_and_the_password_is_not_shown() {
    let source = build(AmqpSource::builder(uri(), ["order"]).credentials("guest", "s3cr3t"));
    let error = refusal(&source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("check user and password") && !shown.contains("s3cr3t"), "{shown}");

    let source = build(AmqpSource::builder(with_vhost(&uri(), "nowhere"), ["order"]));
    let error = refusal(&source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("check the virtual host"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_receives_from_a_broker_that_is_trusted_and_from_no_other() {
    let queue = TestQueue::classic().await;
    let ca = std::fs::read_to_string(variable("OUTBOX_TEST_AMQP_CA")).expect("a certificate");
    let secure = || AmqpSource::builder(variable("OUTBOX_TEST_AMQPS"), [&*queue.name]);
    let mut member = Member::join(&build(secure().ca_pem(ca))).await;
    queue.publish_numbers(0..3).await;
    member.until_received(3).await;

    let error = refusal(&build(secure())).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("give the CA"), "{error}");
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_accepts_and_says_nothing_is_unavailable_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("amqp://{}/%2f", silent.local_addr().expect("an address"));
    let source = build(AmqpSource::builder(uri, ["order"]).request_timeout(Duration::from_millis(500)));
    let error = refusal(&source).await;
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer within 500 ms"), "{error}");
}
