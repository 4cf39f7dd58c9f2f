//! The demo proves itself.

use std::process::Command;

use crate::support::{
    eventually,
    kafka::group_exists,
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
    for found in [events, "lost", "ghosts", "0 ✔", "every committed event arrived", "each applied once"] {
        assert!(ended.stdout.contains(found), "{found:?} is missing in {}", ended.stdout);
    }
    assert_eq!(figure(ended, "applied"), events, "{}", ended.stdout);
    assert!(!ended.stdout.contains('✘'), "{}", ended.stdout);
}

/// What the table at the end says about something.
fn figure(ended: &Ended, what: &str) -> String {
    let row = ended.stdout.lines().find(|line| line.trim_start().starts_with(&format!("│ {what} ")));
    let row = row.unwrap_or_else(|| panic!("no row {what:?} in {}", ended.stdout));
    row.split('┆').nth(1).expect("a row has three cells").trim().to_owned()
}

/// How often relay and consumer were killed.
fn kills(ended: &Ended) -> (u32, u32) {
    let figure = figure(ended, "kills");
    let (relay, consumer) = figure.split_once(" + ").expect("both are counted");
    (relay.parse().expect("a number"), consumer.parse().expect("a number"))
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
    assert_tables_are_gone(&database);
    assert_group_is_gone(&ended);
}

fn assert_tables_are_gone(database: &Database) {
    let left = database.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'demo_%'");
    assert_eq!(left.trim(), "0");
}

/// The demo names its inbox, which is its group: Kafka must not have it any more.
fn assert_group_is_gone(ended: &Ended) {
    let group = inbox(ended);
    assert!(!group_exists(group), "{group} is left");
}

fn inbox(ended: &Ended) -> &str {
    let (_, rest) = ended.stdout.split_once("inbox ").expect("the demo names its inbox");
    rest.split(',').next().expect("the name ends in a comma")
}

#[test]
fn every_effect_is_applied_once_while_relay_and_consumer_are_killed() {
    let ended = run(&["demo", "--chaos", "--events", "8000"]);
    assert_verified(&ended, "8,000");
    assert_plain(&ended.stdout);
    let (relay, consumer) = kills(&ended);
    assert!(relay >= 1 && consumer >= 1, "{}", ended.stdout);
}

#[test]
fn every_effect_is_applied_once_under_chaos_on_postgres_and_kafka() {
    let database = Database::empty();
    let kafka = service("OUTBOX_TEST_KAFKA");
    let ended = run(&["demo", "--chaos", "--events", "8000", "--database", &database.url, "--kafka", &kafka]);
    assert_verified(&ended, "8,000");
    assert_plain(&ended.stdout);
    let (relay, consumer) = kills(&ended);
    assert!(relay >= 1 && consumer >= 1, "{}", ended.stdout);
    assert_tables_are_gone(&database);
    assert_group_is_gone(&ended);
}

#[test]
fn every_effect_is_applied_once_under_chaos_on_mysql_and_rabbitmq() {
    let database = MysqlDatabase::empty();
    let amqp = service("OUTBOX_TEST_AMQP");
    let ended = run(&["demo", "--chaos", "--events", "8000", "--database", &database.url, "--amqp", &amqp]);
    assert_verified(&ended, "8,000");
    let (relay, consumer) = kills(&ended);
    assert!(relay >= 1 && consumer >= 1, "{}", ended.stdout);
    assert_queue_is_gone(&ended);
    assert_eq!(database.tables("demo_"), 0);
}

#[test]
fn an_interrupt_drains_and_verifies_what_was_committed_until_then() {
    let output = tempfile::NamedTempFile::new().expect("a file");
    let mut command = outbox(&["demo", "--chaos", "--events", "40000"]);
    let mut demo = command.stdout(output.reopen().expect("a second handle")).spawn().expect("the command starts");
    let written = || std::fs::read_to_string(output.path()).expect("the output is text");
    let applies = || written().lines().any(|line| line.contains("applied ") && !line.contains("applied         0"));
    eventually("something is applied", || applies().then_some(()));
    succeed(Command::new("sh").args(["-c", &format!("kill -s INT {}", demo.id())]));
    let status = eventually("the demo ends", || demo.try_wait().expect("it can be waited for"));
    assert!(status.success() && written().contains("each applied once"), "{}", written());
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
    for queue in [queue, inbox(ended)] {
        assert!(!queue_exists(queue), "{queue} is left");
    }
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
    assert_tables_are_gone(&database);
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
