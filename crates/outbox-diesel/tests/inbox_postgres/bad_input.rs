//! Messages and handlers that nobody wants, and what is seen of each in the database, in the report and at the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::inbox::{Acknowledging, Identity, InboxStorage, InboxTransaction, IncomingHeaders};
use outbox_core::relay::HealthStatus;
use outbox_diesel::inbox::postgres::PostgresInbox;
use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxHandle, InboxHealthReason, InboxStats, UnknownTypes};
use outbox_testkit::memory::MemorySource;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::consumers::apply;
use crate::database::{Database, LIMITS, consumer};

/// What a handler does, by the message's type.
async fn handle(connection: &mut AsyncPgConnection, delivery: &Delivery) -> Result<(), Failure> {
    let effect = format!("{}:{}", delivery.identity.source(), delivery.identity.id());
    let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES ($1)").bind::<Text, _>(effect);
    insert.execute(connection).await?;
    let is_first = delivery.attempts == 0;
    match delivery.event_type.as_str() {
        "panics" if is_first => panic!("no such card"),
        "hangs" if is_first => std::future::pending().await,
        "hangs in SQL" if is_first => connection.batch_execute("SELECT pg_sleep(60)").await?,
        "fails" if is_first => return Err("the card was refused".into()),
        "rolls back" => {
            connection.batch_execute("ROLLBACK").await?;
            let insert = diesel::sql_query("INSERT INTO effects (effect) VALUES ('outside of the transaction')");
            insert.execute(connection).await?;
        }
        "commits once" if is_first => {
            // only with others: alone it would be tried again for ever
            let sql = "CREATE TABLE committed (); COMMIT; BEGIN READ WRITE";
            connection.batch_execute(sql).await?;
        }
        _ => {}
    }
    Ok(())
}

const TYPES: [&str; 7] = ["fine", "panics", "hangs", "hangs in SQL", "fails", "rolls back", "commits once"];

struct Running {
    handle: InboxHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<InboxStats>,
}

impl Running {
    fn start(storage: Arc<PostgresInbox>, source: &MemorySource, config: InboxConfig) -> Self {
        let builder = Inbox::builder_from(storage, "billing").config(config);
        let inbox = TYPES
            .into_iter()
            .fold(builder, |builder, event_type| builder.on_raw(event_type, handle))
            .source(source.clone())
            .build()
            .expect("a valid configuration");
        let handle = inbox.handle();
        let (stop, stopped) = oneshot::channel();
        let run = async move { inbox.run(async move { drop(stopped.await) }).await.expect("the inbox runs").stats };
        Self { handle, stop, task: tokio::spawn(run) }
    }

    async fn stop(self) -> InboxStats {
        self.stop.send(()).expect("it still runs");
        self.task.await.expect("no panic")
    }
}

fn config() -> InboxConfig {
    let mut config = InboxConfig::default();
    config.retry.initial = Duration::from_millis(50);
    config.reconnect.initial = Duration::from_millis(5);
    config.polling_interval = Duration::from_millis(50);
    config
}

fn source() -> MemorySource {
    MemorySource::new(Acknowledging::Cumulative, 1, &["order"])
}

fn headers(source: &str, id: &str, event_type: &str) -> IncomingHeaders {
    let mut headers = IncomingHeaders::default();
    headers.push("ce_id", id.to_owned());
    headers.push("ce_source", source.to_owned());
    headers.push("ce_type", event_type.to_owned());
    headers
}

fn publish(source: &MemorySource, key: &str, id: &str, event_type: &str) {
    source.publish("order", Some(key), headers("/shop", id, event_type), b"{}");
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "this never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn all_is_acknowledged(source: &MemorySource) {
    eventually("all is acknowledged", || source.unacknowledged(&consumer()) == 0).await;
}

async fn effects(database: &Database) -> Vec<String> {
    database.lines("SELECT effect AS line FROM effects ORDER BY effect").await
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_a_missing_id_and_an_unknown_type_are_dead_letters_as_they_came() {
    let (database, source) = (Database::create().await, source());
    let poison = b"\xff\x00poison".to_vec();
    let mut broken = headers("/shop", "2", "fine");
    broken.push("ce_id", b"\xff".to_vec());
    broken.push("trace", b"\x00\x01".to_vec());
    source.publish("order", Some("a"), broken.clone(), &poison);
    source.publish("order", Some("a"), IncomingHeaders::default(), b"{}");
    publish(&source, "a", "3", "lost");
    source.publish("order", Some("a"), headers("/shop", "4", "fine"), &vec![7; 20_000]);
    publish(&source, "a", "5", "fine");
    let storage = database.storage();
    let inbox = Running::start(storage.clone(), &source, InboxConfig { max_message_bytes: 10_000, ..config() });
    all_is_acknowledged(&source).await;
    assert_eq!(effects(&database).await, ["/shop:5"], "the partition goes on");

    let dead = storage.admin().dead_letters(&consumer(), 0, 10).await.unwrap();
    let seen: Vec<_> = dead.iter().map(|letter| (letter.reason.as_str(), letter.incoming.position)).collect();
    assert_eq!(seen, [("undecodable", 0), ("no_id", 1), ("unknown_type", 2), ("too_large", 3)]);
    assert_eq!(dead[0].incoming.headers, broken);
    assert_eq!(dead[0].incoming.payload.as_ref().map(AsRef::as_ref), Some(&poison[..]));
    assert_eq!(dead[2].error, "no handler is registered for the type \"lost\"");
    assert_eq!(dead[2].identity, Identity::new("/shop", "3").ok());
    assert_eq!(dead[3].incoming.payload.as_ref().map(|bytes| bytes.as_ref().len()), Some(20_000));
    assert!(dead.iter().all(|letter| !letter.error.contains("poison")));

    eventually("they are seen", || inbox.handle.health().reasons == [InboxHealthReason::DeadLetters(4)]).await;
    assert_eq!(inbox.handle.health().status, HealthStatus::Degraded);
    let stats = inbox.stop().await;
    assert_eq!((stats.dead, stats.processed, stats.failed), (4, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_is_skipped_or_held_by_choice() {
    for (choice, status, held) in [(UnknownTypes::Skip, "processed", 0), (UnknownTypes::Fail, "held", 1)] {
        let (database, source) = (Database::create().await, source());
        publish(&source, "a", "1", "lost");
        publish(&source, "b", "2", "fine");
        let mut config = InboxConfig { unknown_types: choice, ..config() };
        config.retry.initial = Duration::from_secs(100);
        let inbox = Running::start(database.storage(), &source, config);
        all_is_acknowledged(&source).await;
        let rows = database.lines("SELECT status AS line FROM inbox_messages WHERE id = '1'").await;
        assert_eq!(rows, [status]);
        assert_eq!(database.number("SELECT count(*) FROM inbox_held WHERE status = 'failed'").await, held);
        let parked = database.lines("SELECT convert_from(ordering_key, 'UTF8') AS line FROM inbox_parked_keys").await;
        assert_eq!(parked, if held == 1 { vec!["order/a"] } else { vec![] });
        let stats = inbox.stop().await;
        assert_eq!((stats.skipped, stats.failed, stats.held), (1 - held as u64, held as u64, held as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_a_hang_hold_the_message_and_leave_the_pool_usable() {
    let (database, source) = (Database::create().await, source());
    for (index, event_type) in ["panics", "hangs", "hangs in SQL", "fails"].into_iter().enumerate() {
        publish(&source, event_type, &index.to_string(), event_type);
        publish(&source, event_type, &format!("{index} follows"), "fine");
    }
    let storage = database.builder().pool_size(2).application_name("hanging").build().unwrap();
    // the server ends what a handler left running
    let statement_timeout = Duration::from_secs(1);
    let mut config =
        InboxConfig { handler_timeout: Duration::from_millis(400), statement_timeout, workers: 2, ..config() };
    config.retry.initial = Duration::from_secs(3);
    let inbox = Running::start(Arc::new(storage), &source, config);
    all_is_acknowledged(&source).await;
    let errors = database.lines("SELECT error AS line FROM inbox_held WHERE status = 'failed' ORDER BY id").await;
    let late = "the handler took longer than handler_timeout (400 ms)";
    assert_eq!(errors, ["the handler panicked: no such card", late, late, "the card was refused"]);
    let waiting = "SELECT id AS line FROM inbox_held WHERE status = 'waiting' ORDER BY id";
    assert_eq!(database.lines(waiting).await, ["0 follows", "1 follows", "2 follows", "3 follows"]);
    assert_eq!(effects(&database).await, Vec::<String>::new(), "nothing of a failed attempt is left");

    database.until("SELECT count(*) FROM effects", 8).await;
    database.until("SELECT count(*) FROM inbox_parked_keys", 0).await;
    let stats = inbox.stop().await;
    assert_eq!((stats.failed, stats.processed, stats.dead), (4, 8, 0));
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hanging' AND (state LIKE 'idle in transaction%' \
        OR query LIKE '%pg_sleep%' AND state = 'active')";
    database.until(open, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_ten_mebibytes_is_processed_and_held_and_buried_like_any_other() {
    const SIZE: usize = 10 << 20;
    let (database, source) = (Database::create().await, source());
    let payload: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    source.publish("order", Some("a"), headers("/shop", "1", "fine"), &payload);
    source.publish("order", Some("a"), headers("/shop", "2", "fails"), &payload);
    source.publish("order", Some("a"), headers("/shop", "3", "lost"), &payload);
    publish(&source, "a", "4", "fine");
    let storage = database.storage();
    let inbox = Running::start(storage.clone(), &source, config());
    all_is_acknowledged(&source).await;
    database.until("SELECT count(*) FROM effects", 3).await;
    eventually("it is dead", || inbox.handle.stats().dead_letters == 1).await;
    let dead = storage.admin().dead_letters(&consumer(), 0, 10).await.unwrap();
    assert!(dead[0].incoming.payload.as_ref().is_some_and(|bytes| bytes.as_ref() == payload), "as it came");
    let stats = inbox.stop().await;
    assert_eq!((stats.processed, stats.failed, stats.dead), (3, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_processed_before_a_crash_is_acknowledged_and_not_applied_again() {
    let (database, source) = (Database::create().await, source());
    publish(&source, "a", "1", "fine");
    publish(&source, "a", "2", "fine");
    let storage = database.storage();
    // the transaction of somebody who died before the acknowledgement
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[crate::consumers::candidate("1")]).await.unwrap();
    apply(transaction.connection(), "/shop:1").await;
    transaction.commit().await.unwrap();
    let inbox = Running::start(storage, &source, config());
    all_is_acknowledged(&source).await;
    assert_eq!(effects(&database).await, ["/shop:1", "/shop:2"]);
    let stats = inbox.stop().await;
    assert_eq!((stats.duplicates, stats.processed, stats.overtaken), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_of_two_producers_is_two_messages() {
    let (database, source) = (Database::create().await, source());
    for producer in ["/shop", "/warehouse", "/shop", "/Shop"] {
        source.publish("order", Some("a"), headers(producer, "1", "fine"), b"{}");
    }
    let inbox = Running::start(database.storage(), &source, config());
    all_is_acknowledged(&source).await;
    let mut applied = effects(&database).await;
    applied.sort_unstable();
    assert_eq!(applied, ["/Shop:1", "/shop:1", "/warehouse:1"]);
    assert_eq!(database.number("SELECT count(*) FROM inbox_messages WHERE id = '1'").await, 3);
    assert_eq!(inbox.stop().await.duplicates, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_rolls_back_writes_nothing_outside_of_the_transaction() {
    let (database, source) = (Database::create().await, source());
    publish(&source, "a", "1", "fine");
    publish(&source, "a", "2", "rolls back");
    publish(&source, "b", "3", "fine");
    let inbox = Running::start(database.storage(), &source, InboxConfig { max_attempts: 2, ..config() });
    all_is_acknowledged(&source).await;
    eventually("it is dead", || inbox.handle.stats().dead_letters == 1).await;
    assert_eq!(effects(&database).await, ["/shop:1", "/shop:3"]);
    assert_eq!(inbox.stop().await.dead, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_a_handler_s_own_commit_takes_for_processed_are_told() {
    let (database, source) = (Database::create().await, source());
    for (id, event_type) in [("1", "fine"), ("2", "commits once"), ("3", "fine")] {
        publish(&source, "a", id, event_type);
    }
    let inbox = Running::start(database.storage(), &source, config());
    all_is_acknowledged(&source).await;
    assert_eq!(
        effects(&database).await,
        ["/shop:1", "/shop:2"],
        "what was behind is lost, which only the handler can prevent"
    );
    assert_eq!(inbox.stop().await.overtaken, 3);
}
