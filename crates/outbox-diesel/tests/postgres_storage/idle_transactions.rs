//! Ranges below the floors wait for transactions that may have written into them, and for no others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use outbox_core::ports::{ReadLimits, Reader};

use crate::database::{Database, LIMITS, number, reader};

const MESSAGES: usize = 3_000;
const SMALL: ReadLimits = ReadLimits { rows: 500, ..LIMITS };
const APPEND: &str =
    "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', '1', 'late', '')";

async fn read_until(reader: &mut dyn Reader, seen: &mut BTreeSet<i64>, enough: impl Fn(&BTreeSet<i64>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !enough(seen) {
        assert!(Instant::now() < deadline, "{} messages were found in 30 s", seen.len());
        seen.extend(reader.read(&SMALL).await.unwrap().messages.iter().map(|message| message.seq));
    }
}

/// Reads until no transaction of another test runs that began before, so that the end of none of them is what is seen later.
async fn outlast_the_others(database: &Database, reader: &mut dyn Reader) {
    let mut watcher = database.connection().await;
    let begun = number(&mut watcher, "SELECT pg_current_xact_id()::text::int8").await;
    let running = format!(
        "SELECT count(*) FROM pg_snapshot_xip(pg_current_snapshot()) AS r (xid) WHERE r.xid::text::int8 < {begun}"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while number(&mut watcher, &running).await > 1 {
        assert!(Instant::now() < deadline, "transactions of other tests run for more than a minute");
        reader.read(&LIMITS).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        reader.read(&LIMITS).await.unwrap();
    }
}

/// A transaction with an id, which has written to another table only.
async fn writes_elsewhere(database: &Database) -> AsyncPgConnection {
    database.execute("CREATE TABLE other (n int)").await;
    let mut open = database.connection().await;
    open.batch_execute("BEGIN; INSERT INTO other VALUES (1)").await.unwrap();
    open
}

#[tokio::test]
async fn the_end_of_a_transaction_that_appended_nothing_brings_nothing_back() {
    let database = Database::create().await;
    let mut other = writes_elsewhere(&database).await;
    database.insert(MESSAGES, 200).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let mut seen = BTreeSet::new();
    read_until(&mut *reader, &mut seen, |seen| seen.len() == MESSAGES).await;

    outlast_the_others(&database, &mut *reader).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    let mut again = 0;
    for _ in 0..5 {
        again += reader.read(&LIMITS).await.unwrap().messages.len();
    }
    // what a read found while it was not busy waits for every transaction
    assert!(again <= MESSAGES / 3, "{again} of {MESSAGES} messages were read again");
}

#[tokio::test]
async fn a_transaction_that_appended_is_waited_for_however_long_it_runs() {
    let database = Database::create().await;
    let mut open = database.connection().await;
    open.batch_execute(&format!("BEGIN; {APPEND}")).await.unwrap();
    database.insert(MESSAGES, 200).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let mut seen = BTreeSet::new();
    read_until(&mut *reader, &mut seen, |seen| seen.len() == MESSAGES).await;

    open.batch_execute("COMMIT").await.unwrap();
    let batch = reader.read(&LIMITS).await.unwrap();
    assert!(batch.messages.iter().any(|message| message.seq == 1), "the very next read brings the late message");
}

#[tokio::test]
async fn a_transaction_that_appends_after_it_was_idle_for_long_is_waited_for_too() {
    let database = Database::create().await;
    let mut open = writes_elsewhere(&database).await;
    database.insert(MESSAGES, 200).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let mut seen = BTreeSet::new();
    read_until(&mut *reader, &mut seen, |seen| seen.len() == MESSAGES).await;

    open.batch_execute(APPEND).await.unwrap();
    let late = number(&mut open, "SELECT max(seq) FROM outbox_messages WHERE event_type = 'late'").await;
    database.insert(MESSAGES, 200).await;
    read_until(&mut *reader, &mut seen, |seen| seen.len() == 2 * MESSAGES).await;
    assert!(!seen.contains(&late) && seen.last().is_some_and(|&last| last > late));

    open.batch_execute("COMMIT").await.unwrap();
    let batch = reader.read(&LIMITS).await.unwrap();
    assert!(batch.messages.iter().any(|message| message.seq == late), "the very next read brings the late message");
}
