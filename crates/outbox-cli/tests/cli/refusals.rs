//! What cannot be used is refused with the key, what is allowed, and no secret.

use crate::support::{
    postgres::Database,
    program::{Ended, outbox, run},
    service,
};

/// A port on which nothing listens: it is bound and let go.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn assert_refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.everything());
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing in {:?}", ended.stderr);
    }
    assert!(!ended.everything().contains("hush"), "a password was printed: {}", ended.everything());
}

#[test]
fn a_url_of_another_kind_names_what_is_allowed() {
    for url in ["mssql://app:hush-hush@db/shop", "app:hush-hush@db", "hush-hush", "sqlite:"] {
        let ended = run(&["relay", "--database", url, "--kafka", "127.0.0.1:1"]);
        let allowed = "allowed: postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH";
        assert_refused(&ended, 1, &["--database", allowed]);
    }
    for url in ["guest:hush-hush@mq", "http://guest:hush-hush@mq", "hush-hush"] {
        let ended = run(&["relay", "--database", "sqlite:x.db", "--amqp", url]);
        assert_refused(&ended, 1, &["--amqp", "allowed: amqp://USER@HOST:PORT/VHOST"]);
    }
}

#[test]
fn there_must_be_exactly_one_broker() {
    let amqp = "amqp://guest:hush-hush@127.0.0.1:1/%2f";
    let both = ["--database", "sqlite:x.db", "--kafka", "127.0.0.1:1", "--amqp", amqp];
    for command in ["relay", "demo"] {
        assert_refused(&run(&[&[command], &both[..]].concat()), 1, &["--kafka and --amqp: both are given"]);
    }
    let none = run(&["relay", "--database", "sqlite:x.db"]);
    assert_refused(&none, 1, &["no broker is named", "--kafka HOST:PORT", "--amqp URL"]);
    let foreign = run(&["relay", "--database", "sqlite:x.db", "--amqp", amqp, "--topic", "x"]);
    assert_refused(&foreign, 1, &["--topic: it belongs to --kafka", "amqp://guest:***@127.0.0.1:1"]);
}

#[test]
fn a_demo_names_the_broker_that_does_not_answer() {
    let address = format!("127.0.0.1:{}", closed_port());
    let ended = run(&["demo", "--amqp", &format!("amqp://guest:hush-hush@{address}/%2f")]);
    assert_refused(&ended, 1, &[&format!("cannot reach RabbitMQ at {address}")]);
    assert_eq!(ended.stderr.matches("Connection refused").count(), 1, "{}", ended.stderr);
}

#[test]
fn values_that_rabbitmq_cannot_carry_name_the_flag() {
    let relay = ["relay", "--database", "sqlite:x.db", "--amqp", "amqp://127.0.0.1:1/%2f"];
    let long = "x".repeat(300);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--exchange", "{colour}"], &["exchange", "{colour}"]),
        (&["--routing-key", "{colour}"], &["routing", "{colour}"]),
        (&["--quorum-queue", "orders"], &["--quorum-queue", "QUEUE=BINDING_KEY"]),
        (&["--exchange", &long], &["exchange", "300"]),
    ];
    for (flags, texts) in cases {
        assert_refused(&run(&[&relay[..], flags].concat()), 1, texts);
    }
    let no_file = run(&[&relay[..], &["--amqp-ca", "nowhere/ca.pem"]].concat());
    assert_refused(&no_file, 1, &["--amqp-ca: nowhere/ca.pem"]);
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    let url = format!("postgres://app:hush-hush@127.0.0.1:{}/shop", closed_port());
    let ended = run(&["migrate", "up", "--database", &url]);
    assert_refused(&ended, 1, &["error:", "127.0.0.1"]);
    let ended = run(&["migrate", "up", "--database", &url.replace("postgres:", "mysql:")]);
    assert_refused(&ended, 1, &["error:", "127.0.0.1"]);
}

#[test]
fn a_misplaced_url_does_not_show_its_password() {
    let ended = run(&["relay", "postgres://app:hush-hush@db/shop"]);
    assert_refused(&ended, 2, &["unexpected argument", "postgres://app:***@db/shop"]);
}

#[test]
fn absurd_values_name_the_key_the_value_and_what_is_allowed() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--batch-size", "0"], &["batch_size is 0", "1 to 50000"]),
        (&["--lease-duration", "1ms"], &["lease_duration is 1ms", "500 ms to 1 h"]),
        (&["--polling-interval", "0ms"], &["polling_interval", "1 ms to 1 h"]),
        (&["--max-attempts", "0"], &["max_attempts is 0", "1 to 1000"]),
        (&["--retry-jitter", "7"], &["retry.jitter is 7", "0 to 1"]),
        (&["--table-prefix", "x; drop"], &["table prefix", "[a-z_][a-z0-9_]*"]),
    ];
    for (flags, texts) in cases {
        let flags = [&["relay", "--database", "sqlite:nowhere/x.db", "--kafka", "127.0.0.1:1"], flags].concat();
        assert_refused(&run(&flags), 1, texts);
    }
}

#[test]
fn a_visibility_margin_belongs_to_mysql_and_has_bounds() {
    let relay = |url: &str, margin: &str| {
        run(&["relay", "--database", url, "--kafka", "127.0.0.1:1", "--visibility-margin", margin])
    };
    for url in ["sqlite:nowhere/x.db", "postgres://127.0.0.1:1/shop"] {
        assert_refused(&relay(url, "250ms"), 1, &["--visibility-margin: only MySQL and MariaDB"]);
    }
    for margin in ["49ms", "31s"] {
        let texts = ["visibility_margin", "is not within 50 ms to 30,000 ms"];
        assert_refused(&relay("mysql://127.0.0.1:1/shop", margin), 1, &texts);
    }
}

#[test]
fn the_demo_takes_an_authority_for_rabbitmq_only() {
    let ended = run(&["demo", "--amqp-ca", "nowhere/ca.pem"]);
    assert_refused(&ended, 2, &["--amqp <URL>"]);
    let ended = run(&["demo", "--amqp", "amqps://127.0.0.1:1/%2f", "--amqp-ca", "nowhere/ca.pem"]);
    assert_refused(&ended, 1, &["--amqp-ca: nowhere/ca.pem"]);
}

#[test]
fn a_value_without_its_unit_is_refused_and_its_variable_is_named() {
    let arguments = ["relay", "--database", "sqlite:x.db", "--kafka", "127.0.0.1:1"];
    let ended = outbox(&arguments).env("OUTBOX__POLLING_INTERVAL", "5").output().expect("the command starts").into();
    assert_refused(&ended, 2, &["--polling-interval", "'5'", "500ms", "OUTBOX__POLLING_INTERVAL"]);
}

#[test]
fn a_misspelt_variable_is_refused() {
    let ended = outbox(&["migrate", "print", "--database", "sqlite:x.db"])
        .env("OUTBOX__POLING_INTERVAL", "5s")
        .output()
        .expect("the command starts")
        .into();
    assert_refused(&ended, 2, &["OUTBOX__POLING_INTERVAL is not known", "OUTBOX__POLLING_INTERVAL"]);
}

#[test]
fn properties_that_break_the_promise_are_refused() {
    for property in ["enable.idempotence=false", "acks=1", "message.timeout.ms=5"] {
        let arguments = ["relay", "--database", "sqlite:x.db", "--kafka", "127.0.0.1:1", "--kafka-property", property];
        let key = property.split('=').next().unwrap_or_default();
        assert_refused(&run(&arguments), 1, &[key]);
    }
    let secret =
        ["relay", "--database", "sqlite:x.db", "--kafka", "127.0.0.1:1", "--kafka-property", "sasl.passwort=hush-hush"];
    assert_refused(&run(&secret), 1, &["sasl.passwort"]);
}

#[test]
fn a_database_without_the_tables_says_what_to_run() {
    let database = Database::empty();
    let ended = run(&["relay", "--database", &database.url, "--kafka", &service("OUTBOX_TEST_KAFKA")]);
    assert_refused(&ended, 1, &["outbox migrate up --database URL"]);
}

#[test]
fn a_schema_of_another_version_says_what_to_do() {
    let database = Database::migrated();
    database.psql("INSERT INTO outbox_schema (version, name) VALUES (99, 'later')");
    let ended = run(&["relay", "--database", &database.url, "--kafka", &service("OUTBOX_TEST_KAFKA")]);
    assert_refused(&ended, 1, &["version 99", "newer program"]);
}

#[test]
fn help_names_every_flag_with_its_variable() {
    let ended = run(&["relay", "--help"]);
    assert!(ended.status.success());
    let help = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "--lease-duration",
        "OUTBOX__LEASE_DURATION",
        "[default: 15s]",
        "exit code 130",
        "--kafka-property",
        "--amqp",
        "OUTBOX__AMQP",
    ] {
        assert!(help.contains(text), "{text:?} is missing in {}", ended.stdout);
    }
    for command in [&["--help"][..], &["demo", "--help"], &["migrate", "--help"], &["migrate", "down", "--help"]] {
        let ended = run(command);
        assert!(ended.status.success() && ended.stdout.contains("Usage: outbox"), "{}", ended.everything());
    }
}
