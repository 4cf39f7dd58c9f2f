//! The relay command on real PostgreSQL and real Kafka.

use std::{path::Path, process::Command};

use crate::support::{
    eventually,
    kafka::Topic,
    postgres::Database,
    program::{Background, run, succeed},
    unique,
};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use outbox::{NewMessage, PostgresOutbox};

fn insert(topic: &Topic, key: &str, value: usize) -> String {
    format!(
        "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
         VALUES ('{}', '{key}', 'order.placed', '{value}')",
        topic.name
    )
}

/// Appends with the library, in a transaction.
fn append(database: &Database, topic: &Topic, key: &str, value: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut conn = AsyncPgConnection::establish(&database.url).await.expect("PostgreSQL answers");
        let message = NewMessage::new(&topic.name, "order.placed", value.to_string().into_bytes()).aggregate_id(key);
        conn.transaction::<_, anyhow::Error, _>(async |conn| {
            Ok(PostgresOutbox::default().append(conn, &message).await?)
        })
        .await
        .expect("the append commits");
    });
}

fn pending(database: &Database) -> String {
    database.psql("SELECT count(*) FROM outbox_messages").trim().to_owned()
}

fn relay<'a>(database: &'a Database, topic: &'a Topic) -> Vec<&'a str> {
    vec!["relay", "--database", &database.url, "--kafka", &topic.brokers]
}

#[test]
fn rows_from_psql_arrive_in_order_with_the_librarys_appends_of_the_same_key() {
    let (database, topic) = (Database::migrated(), Topic::make());
    for value in 0..20 {
        if value % 2 == 0 {
            database.psql(&insert(&topic, "7", value));
        } else {
            append(&database, &topic, "7", value);
        }
    }
    let ended = run(&[relay(&database, &topic), vec!["--drain"]].concat());
    assert!(ended.status.success(), "{}", ended.everything());
    let expected: Vec<String> = (0..20).map(|value| value.to_string()).collect();
    assert_eq!(topic.values_of("7", 20), expected);
    assert_eq!(pending(&database), "0");
}

#[test]
fn an_id_and_headers_from_psql_travel_with_the_message() {
    let (database, topic) = (Database::migrated(), Topic::make());
    database.psql(&format!(
        "INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, headers) VALUES \
         ('0190d3b0-0000-7000-8000-000000000001', '{}', '7', 'order.placed', '{{\"a\":1}}', '{{\"correlation-id\":\"c-1\"}}')",
        topic.name
    ));
    assert!(run(&[relay(&database, &topic), vec!["--drain"]].concat()).status.success());
    let record = topic.records(1).remove(0);
    assert_eq!((record.key.as_deref(), record.value.as_str()), (Some("7"), r#"{"a":1}"#));
    assert_eq!(record.header("ce_id"), Some("0190d3b0-0000-7000-8000-000000000001"));
    assert_eq!(record.header("ce_type"), Some("order.placed"));
    assert_eq!(record.header("correlation-id"), Some("c-1"));
}

#[test]
fn the_python_example_delivers_from_postgres_and_from_sqlite() {
    let topic = Topic::make();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python/insert.py");
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = format!("sqlite:{}", folder.path().join("orders.db").display());
    let database = Database::migrated();
    assert!(run(&["migrate", "up", "--database", &sqlite]).status.success());
    let python = python();
    for (url, key) in [(&database.url, "7"), (&sqlite, "8")] {
        succeed(Command::new(python).arg(&script).args([url, key]));
        let arguments = ["relay", "--drain", "--kafka", &topic.brokers, "--topic", &topic.name, "--database", url];
        let ended = run(&arguments);
        assert!(ended.status.success(), "{}", ended.everything());
    }
    let records = topic.records(4);
    for key in ["7", "8"] {
        let of_key: Vec<_> = records.iter().filter(|record| record.key.as_deref() == Some(key)).collect();
        assert_eq!(
            of_key.iter().map(|record| record.value.as_str()).collect::<Vec<_>>(),
            [r#"{"total_cents": 1250}"#, r#"{"by": "card"}"#]
        );
        assert_eq!(of_key[1].header("correlation-id"), Some("c-1"));
    }
}

/// A Python with a PostgreSQL driver.
fn python() -> &'static str {
    let works = |python: &str, driver: &str| {
        let output = Command::new(python).args(["-c", &format!("import {driver}")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| works(python, "psycopg") || works(python, "psycopg2"))
        .expect("no python3 with psycopg or psycopg2: install it, on Debian with apt-get install python3-psycopg2")
}

#[test]
fn the_first_interrupt_drains() {
    let (database, topic) = (Database::migrated(), Topic::make());
    let relay = Background::start(&relay(&database, &topic));
    relay.logged("relay starts");
    let rows = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) SELECT";
    database.psql(&format!(
        "{rows} '{}', i % 50, 'order.placed', i::text::bytea FROM generate_series(1, 20000) i",
        topic.name
    ));
    eventually("the relay delivers", || (pending(&database) != "20000").then_some(()));
    relay.signal("INT");
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("draining") && log.contains("relay ended"), "{log}");
    // Drained means: what was published was also removed. A second relay delivers the rest, and nothing twice.
    let arguments = ["relay", "--drain", "--database", &database.url, "--kafka", &topic.brokers];
    assert!(run(&arguments).status.success());
    let mut values: Vec<usize> =
        topic.records(20_000).iter().map(|record| record.value.parse().expect("a number")).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=20_000).collect::<Vec<_>>());
}

#[test]
fn the_second_interrupt_ends_at_once() {
    let (database, topic) = (Database::migrated(), Topic::make());
    database.psql(&insert(&topic, "7", 1));
    // A locked row is read and published, but cannot be removed: the drain waits for it.
    let _lock = database.hold("SELECT FROM outbox_messages FOR UPDATE");
    let relay = Background::start(&[relay(&database, &topic), vec!["--shutdown-timeout", "10m"]].concat());
    assert_eq!(topic.values_of("7", 1), ["1"]);
    relay.signal("TERM");
    relay.logged("draining");
    relay.signal("TERM");
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(130), "{log}");
    assert_eq!(pending(&database), "1");
}

#[test]
fn two_relays_with_the_same_name_share_the_work() {
    let (database, topic) = (Database::migrated(), Topic::make());
    let flags = ["--name", "twin", "--lease-duration", "2s", "--progress-interval", "200ms"];
    let first = Background::start(&[relay(&database, &topic), flags.to_vec()].concat());
    first.logged("shards 64/64");
    let second = Background::start(&[relay(&database, &topic), flags.to_vec()].concat());
    first.logged("shards 32/64");
    second.logged("shards 32/64");
    for value in 0..50 {
        database.psql(&format!("{}; {}", insert(&topic, "a", value), insert(&topic, "b", value)));
    }
    let expected: Vec<String> = (0..50).map(|value| value.to_string()).collect();
    for key in ["a", "b"] {
        assert_eq!(topic.values_of(key, 100), expected);
    }
    first.signal("TERM");
    assert_eq!(first.ended().0.code(), Some(0));
    second.logged("shards 64/64");
    second.signal("INT");
    assert_eq!(second.ended().0.code(), Some(0));
}

#[test]
fn a_missing_topic_pauses_its_route_and_loses_nothing() {
    let (database, topic) = (Database::migrated(), Topic::make());
    let missing = unique("missing");
    database.psql(&format!(
        "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) VALUES ('{missing}', '1', 'x', '1')"
    ));
    database.psql(&insert(&topic, "7", 1));
    let relay = Background::start(&[relay(&database, &topic), vec!["--progress-interval", "200ms"]].concat());
    relay.logged(&format!("route {missing} is paused"));
    assert_eq!(topic.values_of("7", 1), ["1"]);
    eventually("only the message without a topic is left", || (pending(&database) == "1").then_some(()));
    assert_eq!(database.psql("SELECT attempts FROM outbox_messages").trim(), "0");
    relay.signal("TERM");
    assert_eq!(relay.ended().0.code(), Some(0));
}

#[test]
fn a_relay_waits_for_a_broker_that_is_away() {
    let (database, topic) = (Database::migrated(), Topic::make());
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("an address").port();
    database.psql(&insert(&topic, "7", 1));
    let brokers = format!("127.0.0.1:{port}");
    let arguments = ["relay", "--database", &database.url, "--kafka", &brokers, "--progress-interval", "200ms"];
    let relay = Background::start(&arguments);
    relay.logged("broker:");
    relay.signal("TERM");
    assert_eq!(relay.ended().0.code(), Some(0));
    assert_eq!(pending(&database), "1");
}
