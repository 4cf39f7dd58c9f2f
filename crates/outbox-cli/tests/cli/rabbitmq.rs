//! The relay command on real MariaDB and real RabbitMQ.

use crate::support::{
    eventually,
    mysql::MysqlDatabase,
    program::{Background, run},
    rabbitmq::{Exchange, exchange_exists},
    unique,
};

fn insert(event_type: &str, key: &str, value: usize) -> String {
    format!(
        "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
         VALUES ('order', '{key}', '{event_type}', '{value}')"
    )
}

fn relay<'a>(database: &'a MysqlDatabase, exchange: &'a Exchange) -> Vec<&'a str> {
    vec!["relay", "--database", &database.url, "--amqp", &exchange.url, "--exchange", &exchange.name]
}

#[test]
fn rows_of_a_plain_insert_arrive_in_order_per_key() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("#"));
    for value in 0..20 {
        database.execute(&insert("placed", if value % 2 == 0 { "even" } else { "odd" }, value));
    }
    let ended = run(&[relay(&database, &exchange), vec!["--drain"]].concat());
    assert!(ended.status.success(), "{}", ended.everything());
    let messages = exchange.messages(20);
    for (key, first) in [("even", 0), ("odd", 1)] {
        let of_key = messages.iter().filter(|message| message.subject.as_deref() == Some(key));
        let bodies: Vec<&str> = of_key.map(|message| message.body.as_str()).collect();
        let expected: Vec<String> = (first..20).step_by(2).map(|value| value.to_string()).collect();
        assert_eq!(bodies, expected);
    }
    assert!(messages.iter().all(|message| message.routing_key == "order.placed" && message.id.is_some()));
    assert_eq!(database.count("outbox_messages"), 0);
}

#[test]
fn a_relay_with_a_margin_of_its_own_delivers() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("#"));
    database.execute(&insert("placed", "7", 1));
    let ended = run(&[relay(&database, &exchange), vec!["--visibility-margin", "2s", "--drain"]].concat());
    assert!(ended.status.success(), "{}", ended.everything());
    assert_eq!(exchange.messages(1)[0].body, "1");
}

#[test]
fn the_relay_declares_an_exchange_and_a_queue_when_told() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::named(&unique("cli")));
    database.execute(&insert("placed", "7", 1));
    let queue = format!("{}=order.*", exchange.name);
    let flags = ["--drain", "--quorum-queue", &queue, "--routing-key", "order.{event_type}"];
    let ended = run(&[relay(&database, &exchange), flags.to_vec()].concat());
    assert!(ended.status.success(), "{}", ended.everything());
    assert_eq!(exchange.messages(1)[0].routing_key, "order.placed");
}

#[test]
fn a_missing_exchange_pauses_its_route_until_it_is_there() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::named(&unique("cli")));
    database.execute(&insert("placed", "7", 1));
    let flags = ["--topology", "check", "--progress-interval", "200ms"];
    let relay = Background::start(&[relay(&database, &exchange), flags.to_vec()].concat());
    relay.logged(&format!("route {}/order.placed is paused", exchange.name));
    assert_eq!(database.count("outbox_messages WHERE attempts = 0"), 1);
    assert!(!exchange_exists(&exchange.name));
    exchange.declare();
    exchange.bind("#");
    assert_eq!(exchange.messages(1)[0].body, "1");
    relay.signal("TERM");
    assert_eq!(relay.ended().0.code(), Some(0));
}

#[test]
fn an_unroutable_message_pauses_its_route_and_the_others_go_on() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("order.placed"));
    database.execute(&insert("cancelled", "7", 1));
    database.execute(&insert("placed", "8", 2));
    let relay = Background::start(&[relay(&database, &exchange), vec!["--progress-interval", "200ms"]].concat());
    relay.logged(&format!("route {}/order.cancelled is paused", exchange.name));
    assert_eq!(exchange.messages(1)[0].body, "2");
    assert_eq!(database.count("outbox_messages WHERE attempts = 0"), 1);
    exchange.bind("order.cancelled");
    assert_eq!(exchange.messages(1)[0].body, "1");
    relay.signal("TERM");
    assert_eq!(relay.ended().0.code(), Some(0));
}

#[test]
fn an_unroutable_message_is_a_dead_letter_when_the_policy_says_so() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("order.placed"));
    database.execute(&insert("cancelled", "7", 1));
    database.execute(&insert("placed", "7", 2));
    let ended = run(&[relay(&database, &exchange), vec!["--unroutable", "reject", "--drain"]].concat());
    assert!(ended.status.success(), "{}", ended.everything());
    assert_eq!(exchange.messages(1)[0].body, "2");
    assert_eq!(database.count("outbox_dead_letters WHERE event_type = 'cancelled'"), 1);
    assert_eq!(database.count("outbox_messages"), 0);
}

#[test]
fn a_relay_waits_for_a_broker_that_does_not_let_it_in_and_shows_no_password() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("#"));
    database.execute(&insert("placed", "7", 1));
    let (_, host) = exchange.url.rsplit_once('@').expect("the broker's URL names a user");
    let url = format!("amqp://guest:hush-hush@{host}");
    let arguments = ["relay", "--database", &database.url, "--amqp", &url, "--progress-interval", "200ms"];
    let relay = Background::start(&arguments);
    relay.logged("broker:");
    relay.signal("TERM");
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("hush") && log.contains("guest:***@"), "{log}");
    assert_eq!(database.count("outbox_messages WHERE attempts = 0"), 1);
}

#[test]
fn two_relays_share_the_work_and_one_goes_on_when_the_other_ends() {
    let (database, exchange) = (MysqlDatabase::migrated(), Exchange::bound("#"));
    let flags = ["--lease-duration", "2s", "--progress-interval", "200ms"];
    let first = Background::start(&[relay(&database, &exchange), flags.to_vec()].concat());
    first.logged("shards 64/64");
    let second = Background::start(&[relay(&database, &exchange), flags.to_vec()].concat());
    first.logged("shards 32/64");
    second.logged("shards 32/64");
    first.signal("TERM");
    assert_eq!(first.ended().0.code(), Some(0));
    second.logged("shards 64/64");
    database.execute(&insert("placed", "7", 1));
    eventually("the other relay has delivered it", || (database.count("outbox_messages") == 0).then_some(()));
    assert_eq!(exchange.messages(1)[0].body, "1");
    second.signal("INT");
    assert_eq!(second.ended().0.code(), Some(0));
}
