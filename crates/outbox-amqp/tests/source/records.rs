//! What a message becomes on its way from RabbitMQ to the inbox.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use outbox_amqp::{AmqpTransport, AmqpTransportBuilder, Encoder, Plain, StructuredCloudEvents, Topology};
use outbox_core::inbox::Incoming;
use outbox_inbox::{Decoder as _, Envelope, Standard};
use time::OffsetDateTime;

use crate::common::broker::uri;
use crate::common::{Dispatch, message, with_headers};
use crate::member::Member;
use crate::queue::TestQueue;

/// Publishes a message through the relay's transport, and reads it as the inbox does without any configuration.
async fn relayed(
    builder: impl Fn(AmqpTransportBuilder) -> AmqpTransportBuilder,
) -> (outbox_core::Message, Incoming, Envelope) {
    let queue = TestQueue::quorum().await;
    let transport = AmqpTransport::builder(uri()).exchange("").routing_key(&*queue.name).topology(Topology::Check);
    let transport = builder(transport).build().expect("a transport");
    let sent = message("order", Some("ключ 7"), &br#"{"total":1250}"#[..]);
    let sent = with_headers(sent, r#"{"traceparent":"00-a","correlation-id":"c1","amqp-priority":"3"}"#);
    Dispatch::open(&transport, &sent).await.publish(std::slice::from_ref(&sent)).await;
    let mut member = Member::join(&queue.source()).await;
    member.until_received(1).await;
    queue.remove().await;
    let came = member.received.remove(0);
    let envelope = Standard::default().decode(&came).expect("an envelope");
    (sent, came, envelope)
}

fn encoded(encoder: impl Encoder + Clone) -> impl Fn(AmqpTransportBuilder) -> AmqpTransportBuilder {
    move |builder| builder.encoder(encoder.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_publishes_is_read_without_configuration() {
    let structured = StructuredCloudEvents::new("/shop");
    for (sent, came, read) in [relayed(|builder| builder.source("/shop")).await, relayed(encoded(structured)).await] {
        assert_eq!((read.source.as_deref(), read.id), (Some("/shop"), Some(sent.id.to_string())));
        assert_eq!((read.event_type.as_str(), read.content_type.as_deref()), ("placed", Some("application/json")));
        assert_eq!((read.key.as_deref(), read.subject.as_deref()), (Some("ключ 7".as_bytes()), Some("ключ 7")));
        assert_eq!(read.payload.as_ref(), br#"{"total":1250}"#);
        let whole_ms = |time: OffsetDateTime| time.unix_timestamp_nanos() / 1_000_000;
        assert_eq!(read.time.map(whole_ms), Some(whole_ms(sent.occurred_at)));
        for (name, value) in [("traceparent", "00-a"), ("correlation-id", "c1"), ("amqp-priority", "3")] {
            assert_eq!(came.headers.get(name), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(came.headers.get("amqp-exchange"), Some(&b""[..]));
        assert_eq!(came.timestamp.map(OffsetDateTime::unix_timestamp), Some(sent.occurred_at.unix_timestamp()));
        assert!(!came.redelivered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_message_of_the_relay_has_its_id_and_type_from_the_properties() {
    let (sent, came, read) = relayed(encoded(Plain)).await;
    assert_eq!((read.id, read.event_type.as_str()), (Some(sent.id.to_string()), "placed"));
    assert_eq!(read.source.as_deref(), Some(&*came.partition.stream));
    assert_eq!(read.key, None, "there is no key on the wire");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_other_producers_arrive_in_their_text_form() {
    let queue = TestQueue::classic().await;
    let mut inner = FieldTable::default();
    inner.insert("count".into(), AMQPValue::LongLongInt(2));
    let mut table = FieldTable::default();
    for (name, value) in [
        ("text", AMQPValue::LongString("Grüße".into())),
        ("bytes", AMQPValue::LongString(vec![0xff, 0x00].into())),
        ("number", AMQPValue::LongLongInt(-7)),
        ("flag", AMQPValue::Boolean(true)),
        ("cloudEvents:time", AMQPValue::Timestamp(1_795_256_430)),
        ("nothing", AMQPValue::Void),
        ("x-death", AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(inner)]))),
    ] {
        table.insert(name.into(), value);
    }
    let properties = BasicProperties::default().with_headers(table).with_message_id("m1".into());
    queue.publish([(properties, Vec::new())]).await;
    let mut member = Member::join(&queue.source()).await;
    member.until_received(1).await;
    let headers = &member.received[0].headers;
    for (name, value) in [
        ("text", "Grüße".as_bytes()),
        ("bytes", b"\xff\x00"),
        ("number", b"-7"),
        ("flag", b"true"),
        ("cloudEvents:time", b"2026-11-21T10:20:30Z"),
        ("nothing", b""),
        ("x-death", br#"[{"count":2}]"#),
        ("message-id", b"m1"),
    ] {
        assert_eq!(headers.get(name), Some(value), "{name}");
    }
    assert_eq!(member.received[0].payload.as_ref().map(|payload| payload.as_ref().len()), Some(0));
    queue.remove().await;
}
