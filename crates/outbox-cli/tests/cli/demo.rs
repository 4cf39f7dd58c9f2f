//! The demo proves itself.

use crate::support::{
    mysql::MysqlDatabase,
    postgres::Database,
    program::{Ended, outbox, run, succeed},
    rabbitmq::{exchange_exists, queue_exists},
    service,
};

fn assert_plain(text: &str) {
    let control: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert!(control.is_empty(), "control characters {control:?} in {text:?}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
    }
}

fn assert_verified(ended: &Ended, events: &str) {
    assert!(ended.status.success(), "{}", ended.everything());
    for found in [events, "lost", "ghosts", "0 ✔", "every committed event arrived"] {
        assert!(ended.stdout.contains(found), "{found:?} is missing in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains('✘'), "{}", ended.stdout);
}

#[test]
fn the_demo_without_services_verifies_itself_and_is_plain_when_piped() {
    let ended = run(&["demo", "--events", "3000", "--rate", "0"]);
    assert_verified(&ended, "3,000");
    assert_plain(&ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_demo_leaves_nothing_in_the_temporary_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = outbox(&["demo", "--events", "200", "--rate", "0"]);
    succeed(command.env("TMPDIR", folder.path()));
    assert_eq!(folder.path().read_dir().expect("the folder is there").count(), 0);
}

#[test]
fn the_demo_on_real_services_verifies_itself_and_cleans_up() {
    let database = Database::empty();
    let kafka = service("OUTBOX_TEST_KAFKA");
    let ended = run(&["demo", "--events", "5000", "--rate", "0", "--database", &database.url, "--kafka", &kafka]);
    assert_verified(&ended, "5,000");
    assert_plain(&ended.stdout);
    let left = database.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'demo_%'");
    assert_eq!(left.trim(), "0");
}

/// Runs the demo on one of the pairs of database and broker; PostgreSQL with Kafka has its test above.
fn verify_pair(database: &[&str], broker: &[&str]) -> Ended {
    let size = ["demo", "--events", "2000", "--rate", "0", "--orders", "200"];
    let ended = run(&[&size[..], database, broker].concat());
    assert_verified(&ended, "2,000");
    assert_plain(&ended.stdout);
    ended
}

/// The demo names what it made: RabbitMQ must not have it any more.
fn assert_queue_is_gone(ended: &Ended) {
    let (_, rest) = ended.stdout.split_once(", queue ").expect("the demo names its queue");
    let queue = rest.lines().next().unwrap_or_default().trim();
    let exchange = queue.strip_suffix("order").expect("the queue is named after its events");
    assert!(!queue_exists(queue), "{queue} is left");
    assert!(!exchange_exists(&format!("{exchange}events")), "the exchange of {queue} is left");
}

#[test]
fn the_demo_verifies_itself_on_sqlite_and_kafka() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite:{}", folder.path().join("demo.db").display());
    verify_pair(&["--database", &database], &["--kafka", &service("OUTBOX_TEST_KAFKA")]);
}

#[test]
fn the_demo_verifies_itself_on_sqlite_and_rabbitmq() {
    let ended = verify_pair(&[], &["--amqp", &service("OUTBOX_TEST_AMQP")]);
    assert_queue_is_gone(&ended);
}

#[test]
fn the_demo_verifies_itself_on_rabbitmq_with_tls() {
    let ended =
        verify_pair(&[], &["--amqp", &service("OUTBOX_TEST_AMQPS"), "--amqp-ca", &service("OUTBOX_TEST_AMQP_CA")]);
    assert_queue_is_gone(&ended);
}

#[test]
fn the_demo_verifies_itself_on_postgres_and_rabbitmq() {
    let database = Database::empty();
    let ended = verify_pair(&["--database", &database.url], &["--amqp", &service("OUTBOX_TEST_AMQP")]);
    assert_queue_is_gone(&ended);
    assert_eq!(database.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'demo_%'").trim(), "0");
}

#[test]
fn the_demo_verifies_itself_on_mysql_and_kafka() {
    let database = MysqlDatabase::empty();
    verify_pair(&["--database", &database.url], &["--kafka", &service("OUTBOX_TEST_KAFKA")]);
    assert_eq!(database.tables("demo_"), 0);
}

#[test]
fn the_demo_verifies_itself_on_mysql_and_rabbitmq() {
    let database = MysqlDatabase::empty();
    let ended = verify_pair(&["--database", &database.url], &["--amqp", &service("OUTBOX_TEST_AMQP")]);
    assert_queue_is_gone(&ended);
    assert_eq!(database.tables("demo_"), 0);
}

#[test]
fn more_events_than_the_in_process_broker_holds_are_refused_with_the_limit() {
    for events in ["0", "100000000"] {
        let ended = run(&["demo", "--events", events]);
        assert_eq!(ended.status.code(), Some(1));
        assert!(
            ended.stderr.contains("--events is") && ended.stderr.contains("it must be 1 to 81,920"),
            "{}",
            ended.stderr
        );
    }
}
