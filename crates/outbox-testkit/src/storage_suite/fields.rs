//! Every field comes back as it was appended.

use outbox_core::message::{Message, NewMessage};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::subject::{Subject, keyed};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    the_smallest_message_comes_back_with_its_defaults,
    unicode_comes_back_in_every_text,
    texts_of_255_characters_come_back,
    an_empty_payload_comes_back,
    every_byte_of_a_binary_payload_comes_back,
    a_payload_of_one_megabyte_comes_back,
    headers_come_back_whatever_they_hold,
    the_domain_time_comes_back_to_the_microsecond,
    a_message_without_a_domain_time_gets_the_database_s_clock,
];

async fn the_smallest_message_comes_back_with_its_defaults(subject: &Subject) {
    let sent = NewMessage::new("order", "order.placed", b"{}".to_vec());
    let message = round_trip(subject, &sent).await;
    assert_eq!(message.aggregate_id, None);
    assert_eq!(message.lane(), None);
    assert_eq!(message.content_type, "application/json");
    assert!(message.headers.is_empty());
    assert_eq!(message.attempts, 0);
}

async fn unicode_comes_back_in_every_text(subject: &Subject) {
    let sent = NewMessage::new("bestellung-ß", "注文.作成", "{\"n\":\"Grüße 🚀\"}".as_bytes().to_vec())
        .aggregate_id("ключ 'q\" \\ \u{1f} e\u{301}")
        .content_type("text/plain; note=\"žluťoučký\"");
    round_trip(subject, &sent).await;
}

async fn texts_of_255_characters_come_back(subject: &Subject) {
    let long = "é".repeat(255);
    let sent = NewMessage::new(&long, &long, b"{}".to_vec()).aggregate_id(&long).content_type(&long);
    round_trip(subject, &sent).await;
}

async fn an_empty_payload_comes_back(subject: &Subject) {
    round_trip(subject, &NewMessage::new("order", "order.placed", Vec::new()).aggregate_id("a")).await;
}

async fn every_byte_of_a_binary_payload_comes_back(subject: &Subject) {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let sent = NewMessage::new("order", "order.placed", bytes).aggregate_id("a");
    round_trip(subject, &sent.content_type("application/octet-stream")).await;
}

async fn a_payload_of_one_megabyte_comes_back(subject: &Subject) {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    round_trip(subject, &NewMessage::new("order", "order.placed", bytes).aggregate_id("a")).await;
}

async fn headers_come_back_whatever_they_hold(subject: &Subject) {
    let sent = keyed("a", 0)
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("quote \" and \\", "line\nbreak\ttab \u{1} \u{1f}")
        .header("имя", "値 🚀")
        .header("empty", "")
        .header("looks like json", "{\"a\":[1,null]}");
    round_trip(subject, &sent).await;
}

async fn the_domain_time_comes_back_to_the_microsecond(subject: &Subject) {
    let times = [
        "2024-02-29T23:59:59.123456Z",
        "2024-02-29T23:59:59.000001+05:45",
        "1969-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ];
    for time in times {
        let time = OffsetDateTime::parse(time, &Rfc3339).expect("a time");
        round_trip(subject, &keyed("a", 0).occurred_at(time)).await;
    }
}

async fn a_message_without_a_domain_time_gets_the_database_s_clock(subject: &Subject) {
    let tolerance = Duration::milliseconds(5); // of the unit in which a storage keeps time
    let before = subject.now().await;
    let message = round_trip(subject, &keyed("a", 0)).await;
    let after = subject.now().await;
    let time = message.occurred_at;
    assert!(before - tolerance <= time && time <= after + tolerance, "{time} is not between {before} and {after}");
}

async fn round_trip(subject: &Subject, sent: &NewMessage) -> Message {
    let message = subject.commit_and_read(std::slice::from_ref(sent)).await.remove(0);
    assert_eq!(message.id, sent.id);
    assert_eq!(message.aggregate_type, sent.aggregate_type);
    assert_eq!(message.aggregate_id, sent.aggregate_id);
    assert_eq!(message.event_type, sent.event_type);
    assert_eq!(message.content_type, sent.content_type);
    assert!(message.payload == sent.payload, "the payload differs");
    assert_eq!(message.headers.to_map(), sent.headers);
    if let Some(time) = sent.occurred_at {
        assert_eq!(message.occurred_at, time);
        assert_eq!(message.occurred_at.offset(), OffsetDateTime::UNIX_EPOCH.offset(), "the time is not in UTC");
    }
    message
}
