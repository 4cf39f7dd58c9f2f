use super::*;

fn with(key: &str, value: &str) -> Result<Properties, BuildError> {
    Properties::new("127.0.0.1:9092", &BTreeMap::from([(key.to_owned(), value.to_owned())]))
}

#[test]
fn properties_that_would_break_the_promise_are_refused_with_the_reason() {
    for (key, value) in [
        ("enable.idempotence", "false"),
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("enable.gapless.guarantee", "false"),
        ("message.timeout.ms", "300000"),
        ("delivery.timeout.ms", "1"),
        ("queuing.strategy", "lifo"),
        ("delivery.report.only.error", "true"),
        ("retries", "3"),
        ("message.send.max.retries", "3"),
        ("max.in.flight", "6"),
        ("max.in.flight.requests.per.connection", "0"),
        ("transactional.id", "x"),
        ("partitioner", "random"),
        ("bootstrap.servers", "x:1"),
        ("metadata.broker.list", "x:1"),
    ] {
        let Err(error) = with(key, value) else { panic!("{key}={value} was accepted") };
        assert!(matches!(error, BuildError::Forbidden { .. }), "{key}: {error}");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn the_promised_values_may_be_repeated() {
    for (key, value) in [("acks", "all"), ("acks", "-1"), ("enable.idempotence", "true"), ("max.in.flight", "1")] {
        assert!(with(key, value).is_ok(), "{key}={value}");
    }
}

#[test]
fn an_own_value_replaces_the_default() {
    let config = with("linger.ms", "3").ok().unwrap().producer(1_000_000);
    assert_eq!(config.get("linger.ms"), Some("3"));
    assert_eq!(config.get("acks"), Some("all"));
}

#[test]
fn a_value_that_librdkafka_refuses_is_not_shown() {
    let error = with("security.protocol", "s3cr3t").err().unwrap();
    assert!(matches!(&error, BuildError::Property { key, .. } if key == "security.protocol"), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
}

#[test]
fn an_unknown_property_is_named() {
    let error = with("no.such.property", "1").err().unwrap();
    assert!(matches!(&error, BuildError::Property { key, .. } if key == "no.such.property"), "{error}");
}

#[test]
fn a_message_limit_over_the_queue_is_refused() {
    let error = with(MAX_MESSAGE_BYTES, "100000000").err().unwrap().to_string();
    assert!(error.contains("raise queue.buffering.max.kbytes"), "{error}");
}

#[test]
fn malformed_brokers_are_refused() {
    for brokers in ["", "a:9092,", "a:0", "a:b", ":9092", "a b:9092", "kafka://u:p@a:9092", "a:9092/x", "a:99999"] {
        assert!(matches!(check_brokers(brokers), Err(BuildError::Brokers { .. })), "{brokers}");
    }
    for brokers in ["a", "a:9092", "a:9092, b:9093", "[::1]:9092", "PLAINTEXT://a:9092"] {
        assert_eq!(check_brokers(brokers), Ok(()), "{brokers}");
    }
    let error = check_brokers("kafka://user:s3cr3t@a:9092").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
}
