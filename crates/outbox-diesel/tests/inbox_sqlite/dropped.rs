//! Futures that are dropped: all of a transaction is there, or nothing.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::{Committed, Fate, InboxStorage, InboxTransaction, Standing};
use outbox_diesel::inbox::sqlite::SqliteInbox;

use crate::database::{Database, LIMITS, apply, aside, candidate, consumer};

/// Counts to many millions: a second or so.
const LONG_STATEMENT: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) \
    INSERT INTO effects SELECT 'late' FROM n WHERE i % 1000000 = 0";

/// Processes one message and puts another one aside.
async fn process(storage: &SqliteInbox, id: &str) {
    let follower = format!("{id}-failed");
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.expect("begin");
    transaction.admit(&[candidate(id), candidate(&follower)]).await.expect("admit");
    apply(transaction.connection(), id).await;
    let fate = Fate::Failed { attempts: 1, delay: Duration::from_secs(600), error: "refused".to_owned() };
    transaction.put_aside(&[aside(&follower, fate)]).await.expect("put_aside");
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
}

/// Drops the work when it has waited this often. Whether it came to its end.
async fn dropped_after(waits: usize, work: impl Future<Output = ()>) -> bool {
    let (mut work, mut left) = (Box::pin(work), waits);
    poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Rounds of dropping a transaction at its first wait, its second, and so on until it came to its end.
const ROUNDS: usize = 8;

async fn is_whole_or_not_there() {
    let database = Database::create();
    let storage = database.storage();
    let (mut number, mut nothing, mut whole) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let mut waits = 0;
        loop {
            number += 1;
            let id = format!("id-{number}");
            let finished = dropped_after(waits, process(&storage, &id)).await;
            match look(&database, &storage, &id).await {
                true => whole += 1,
                false => nothing += 1,
            }
            if finished {
                break;
            }
            waits += 1;
        }
    }
    assert!(nothing >= ROUNDS && whole >= ROUNDS, "{nothing} left nothing, {whole} all");
}

/// Whether the transaction is there, as a whole.
async fn look(database: &Database, storage: &SqliteInbox, id: &str) -> bool {
    // waits for the transaction that was dropped, if it is still there
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    let standing = transaction.admit(&[candidate(id)]).await.unwrap().standings[0];
    transaction.rollback().await;
    let follower = format!("{id}-failed");
    let counts = database.number(&format!(
        "SELECT 1000 * (SELECT count(*) FROM effects WHERE effect = '{id}') \
         + 100 * (SELECT count(*) FROM inbox_messages WHERE id = '{follower}' AND status = 'held') \
         + 10 * (SELECT count(*) FROM inbox_held WHERE id = '{follower}') \
         + (SELECT count(*) FROM inbox_parked_keys WHERE ordering_key = CAST('order/{follower}' AS BLOB))"
    ));
    match standing {
        Standing::New => assert_eq!(counts, 0),
        Standing::Processed => assert_eq!(counts, 1111),
        other => panic!("{other:?}"),
    }
    standing == Standing::Processed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_dropped_at_any_await_is_there_as_a_whole_or_not_at_all() {
    is_whole_or_not_there().await;
}

#[tokio::test]
async fn it_is_so_on_a_runtime_of_one_thread() {
    is_whole_or_not_there().await;
}

#[tokio::test]
async fn a_handler_that_hangs_is_dropped_at_once_and_its_statement_leaves_nothing() {
    let database = Database::create();
    let storage = database.storage();
    let mut transaction = storage.begin(&consumer(), &LIMITS).await.unwrap();
    transaction.admit(&[candidate("1")]).await.unwrap();
    let mut elsewhere = database.connection();
    elsewhere.batch_execute("PRAGMA busy_timeout = 0").unwrap();
    let hanging = transaction.connection().batch_execute(LONG_STATEMENT);
    assert!(tokio::time::timeout(Duration::from_millis(20), hanging).await.is_err(), "it was not long");
    drop(transaction);
    assert!(elsewhere.batch_execute("BEGIN IMMEDIATE").is_err(), "the drop waited for the statement to end");
    // the next one waits for the statement, which has the lock
    let mut next = storage.begin(&consumer(), &LIMITS).await.unwrap();
    assert_eq!(next.admit(&[candidate("1")]).await.unwrap().standings, [Standing::New]);
    next.rollback().await;
    assert_eq!(database.number("SELECT count(*) FROM effects"), 0);
}

#[tokio::test]
async fn a_begin_that_is_dropped_while_it_waits_for_another_program_leaves_no_lock() {
    let database = Database::create();
    let storage = database.storage();
    let mut writer = database.connection();
    writer.batch_execute("BEGIN IMMEDIATE").unwrap();
    let consumer = consumer();
    let begin = storage.begin(&consumer, &LIMITS);
    assert!(tokio::time::timeout(Duration::from_millis(50), begin).await.is_err(), "it did not wait");
    writer.batch_execute("ROLLBACK").unwrap();
    // its lock would be waited for five seconds
    let began = Instant::now();
    writer.batch_execute("BEGIN IMMEDIATE; ROLLBACK").unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    storage.begin(&consumer, &LIMITS).await.unwrap().rollback().await;
}
