use outbox_core::Headers;

use super::*;
use crate::fixtures::message;
use crate::{CloudEvents, Plain};

impl Limits {
    pub(crate) fn for_tests() -> Self {
        Self { frame_bytes: 131_072, body_bytes: 1_000 }
    }
}

fn prepare(message: &Message) -> Result<Prepared, Reason> {
    Publication::prepare(message, &Plain, &Defaults::default(), &Limits::for_tests())
}

fn with_headers(json: &str) -> Message {
    let mut message = message("order", Some("7"));
    message.headers = Headers::from_json(json);
    message
}

fn text(value: &Option<ShortString>) -> &str {
    value.as_ref().map_or("", ShortString::as_str)
}

#[test]
fn every_message_is_persistent_and_has_its_id_type_time_and_content_type() {
    let message = message("order", Some("7"));
    let properties = prepare(&message).unwrap().properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(text(properties.message_id()), message.id.to_string());
    assert_eq!(text(properties.kind()), "order.placed");
    assert_eq!(*properties.timestamp(), Some(1_795_256_430));
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!((*properties.priority(), properties.headers()), (None, &None));
}

#[test]
fn headers_of_the_message_become_properties() {
    let message = with_headers(
        r#"{"amqp-priority":"7","amqp-expiration":60000,"correlation-id":"c-1","amqp-app-id":"shop","content-encoding":"gzip"}"#,
    );
    let properties = prepare(&message).unwrap().properties;
    assert_eq!(*properties.priority(), Some(7));
    assert_eq!(text(properties.expiration()), "60000");
    assert_eq!(text(properties.correlation_id()), "c-1");
    assert_eq!(text(properties.app_id()), "shop");
    assert_eq!(text(properties.content_encoding()), "gzip");
    assert_eq!(*properties.headers(), None, "what is a property is no header");
}

#[test]
fn the_message_goes_before_the_defaults() {
    let defaults =
        Defaults { app_id: Some("relay".into()), priority: Some(1), expiration: Some(Duration::from_secs(2)) };
    let message = with_headers(r#"{"amqp-priority":"7"}"#);
    let properties = Publication::prepare(&message, &Plain, &defaults, &Limits::for_tests()).unwrap().properties;
    assert_eq!(*properties.priority(), Some(7));
    assert_eq!(text(properties.app_id()), "relay");
    assert_eq!(text(properties.expiration()), "2000");
}

#[test]
fn what_the_broker_would_close_the_channel_over_is_refused_by_name() {
    for (json, fault) in [
        (r#"{"amqp-expiration":"1 h"}"#, "header amqp-expiration is no expiration: give whole milliseconds"),
        (r#"{"amqp-expiration":"-1"}"#, "header amqp-expiration"),
        (r#"{"amqp-expiration":"4294967296"}"#, "header amqp-expiration"),
        (r#"{"amqp-priority":"high"}"#, "header amqp-priority is no priority"),
        (r#"{"amqp-priority":"256"}"#, "header amqp-priority"),
    ] {
        let reason = prepare(&with_headers(json)).err().unwrap();
        assert!(reason.0.contains(fault), "{json}: {reason}");
    }
}

#[test]
fn texts_that_are_too_long_are_refused_by_name_and_without_their_content() {
    let long = "ü".repeat(150);
    for (json, fault) in [
        (format!(r#"{{"correlation-id":"{long}"}}"#), "correlation-id has 300 bytes"),
        (format!(r#"{{"{long}":"x"}}"#), "the name of a header has 300 bytes"),
    ] {
        let reason = prepare(&with_headers(&json)).err().unwrap();
        assert!(reason.0.contains(fault) && !reason.0.contains('ü'), "{reason}");
    }
    let mut message = message("order", None);
    message.event_type = long;
    assert!(prepare(&message).err().unwrap().0.contains("event_type has 300 bytes"));
}

#[test]
fn a_body_over_the_limit_is_refused_with_its_size() {
    let mut message = message("order", None);
    message.payload = vec![b'x'; 1_000].into();
    assert!(prepare(&message).is_ok());
    message.payload = vec![b'x'; 1_001].into();
    let reason = prepare(&message).err().unwrap();
    assert!(reason.0.contains("1001 bytes and max_message_bytes is 1000"), "{reason}");
}

#[test]
fn headers_over_the_frame_size_are_refused_before_the_broker_closes_the_connection() {
    let message = with_headers(&format!(r#"{{"big":"{}"}}"#, "x".repeat(131_072)));
    let reason = prepare(&message).err().unwrap();
    assert!(reason.0.contains("the largest frame that was agreed with the broker has 131072"), "{reason}");
    assert!(prepare(&with_headers(&format!(r#"{{"big":"{}"}}"#, "x".repeat(130_000)))).is_ok());
}

#[test]
fn an_error_shows_no_value() {
    let message = with_headers(r#"{"amqp-priority":"s3cr3t"}"#);
    let refused = Publication::prepare(&message, &CloudEvents::new("/x"), &Defaults::default(), &Limits::for_tests());
    assert!(!refused.err().unwrap().0.contains("s3cr3t"));
}
