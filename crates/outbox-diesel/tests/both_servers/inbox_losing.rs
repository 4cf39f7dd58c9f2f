//! Handlers whose connection the server ends. For each server with connections of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::Event;
use outbox_core::inbox::{Acknowledging, IncomingHeaders};
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxStats, Mode};
use outbox_testkit::memory::MemorySource;
use tokio::sync::oneshot;

use crate::database::{Connection, Database, END_CONNECTION, INSERT_EFFECT};

#[derive(serde::Serialize, serde::Deserialize)]
struct Deposited {
    n: usize,
}

impl Event for Deposited {
    const AGGREGATE_TYPE: &'static str = "account";
    const EVENT_TYPE: &'static str = "account.deposited";

    fn aggregate_id(&self) -> Option<String> {
        Some("one".to_owned())
    }
}

/// How often the connection of the first message is still ended.
type Kills = Arc<AtomicUsize>;

async fn deposit(kills: &Kills, connection: &mut Connection, event: Deposited, _: &Delivery) -> Result<(), Failure> {
    diesel::sql_query(INSERT_EFFECT).bind::<Text, _>(event.n.to_string()).execute(connection).await?;
    let left = AtomicUsize::load(kills, Ordering::Relaxed);
    if event.n > 0 || left == 0 {
        return Ok(());
    }
    kills.store(left - 1, Ordering::Relaxed);
    match left % 3 {
        0 => connection.batch_execute(END_CONNECTION).await?,
        1 => connection.batch_execute(END_CONNECTION).await.expect("the statement is answered"),
        _ => connection.transaction(async |nested| nested.batch_execute(END_CONNECTION).await).await?,
    }
    // what a handler says of it itself is not the database's error
    Err("the ledger was not written".into())
}

/// Processes three messages of a key, of which the first loses its connection so often, with one attempt for each.
async fn process(database: &Database, kills: usize, mode: Mode, effects: i64) -> InboxStats {
    let source = MemorySource::new(Acknowledging::Cumulative, 1, &["account"]);
    for n in 0..3 {
        let mut headers = IncomingHeaders::default();
        headers.push("ce_id", n.to_string());
        headers.push("ce_source", "/bank");
        headers.push("ce_type", Deposited::EVENT_TYPE);
        source.publish("account", Some("one"), headers, &serde_json::to_vec(&Deposited { n }).unwrap());
    }
    let mut config = InboxConfig { mode, batch_size: 1, max_attempts: 1, ..InboxConfig::default() };
    config.reconnect.initial = Duration::from_millis(20);
    config.polling_interval = Duration::from_millis(50);
    let inbox = Inbox::builder_from(database.storage(), "billing")
        .config(config)
        .on_with(Kills::new(AtomicUsize::new(kills)), deposit)
        .source(source)
        .build()
        .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(inbox.run(async move { drop(stopped.await) }));
    database.until("SELECT count(*) FROM effects", effects).await;
    database.until("SELECT count(*) FROM inbox_held", 0).await;
    stop.send(()).expect("it still runs");
    running.await.expect("no panic").expect("it runs").stats
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_cost_no_attempt() {
    for mode in [Mode::Transactional, Mode::Durable] {
        let database = Database::create().await;
        let stats = process(&database, 3, mode, 3).await;
        assert_eq!((stats.failed, stats.dead), (0, 0), "{mode:?}");
        assert_eq!(database.number("SELECT count(*) FROM inbox_dead_letters").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_every_connection_is_buried_and_its_key_goes_on() {
    for mode in [Mode::Transactional, Mode::Durable] {
        let database = Database::create().await;
        let stats = process(&database, 3_000, mode, 2).await;
        assert_eq!((stats.failed, stats.dead), (1, 1), "{mode:?}");
        let dead = database.lines("SELECT error AS line FROM inbox_dead_letters").await;
        assert!(dead.len() == 1 && dead[0].contains("connection to the database was lost"), "{dead:?}");
    }
}
