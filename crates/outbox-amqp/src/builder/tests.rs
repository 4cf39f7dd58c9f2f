use super::*;
use crate::Declaration;

fn builder() -> AmqpTransportBuilder {
    AmqpTransport::builder("amqp://relay:s3cr3t@127.0.0.1:5672/%2f")
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let long_queue = Topology::Declare(Declaration::new().quorum_queue("q".repeat(256), "#"));
    let refused = [
        (AmqpTransport::builder("localhost"), "uri: "),
        (builder().source(""), "source is empty"),
        (builder().heartbeat(Duration::from_millis(10)), "heartbeat is 10 ms: give a time of at least 1000 ms"),
        (builder().stall_timeout(Duration::ZERO), "stall_timeout is 0 ms"),
        (builder().expiration(Duration::ZERO), "expiration is 0 ms"),
        (
            builder().expiration(Duration::from_secs(50 * 24 * 60 * 60)),
            "expiration is 4320000000 ms: give a time of at most 4294967295 ms",
        ),
        (builder().exchange("{key}"), "exchange \"{key}\" has the unknown field"),
        (builder().routing_key("{"), "routing_key \"{\" has a '{'"),
        (builder().app_id("a".repeat(300)), "app_id has 300 bytes, the limit is 255"),
        (builder().topology(long_queue), "quorum_queue has 256 bytes"),
        (builder().ca_pem("ca.pem"), "ca_pem holds no PEM block \"CERTIFICATE\""),
    ];
    for (builder, text) in refused {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let builder = builder().credentials("relay", "s3cr3t2");
    assert!(!format!("{builder:?}").contains("s3cr3t"));
    let transport = builder.build().unwrap();
    assert_eq!(
        format!("{transport:?}"),
        "AmqpTransport { broker: amqp://relay@127.0.0.1:5672 virtual host \"/\", .. }"
    );
}
