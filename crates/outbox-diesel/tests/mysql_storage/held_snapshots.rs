//! A snapshot that another session holds, as a dump does: what was delivered since stays in the indexes, and is in nobody's way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{ReadLimits, Reader, Storage};

use crate::database::{Database, LIMITS, reader};

/// Rows of the first statement; each of the others doubles them.
const FIRST: usize = 1_000;
const DOUBLINGS: usize = 7;

/// A statement that goes through what was delivered for each of 64 shards, from its own place to the end, does as much as 32 that go
/// through all of it once.
const PASSES: u32 = 10;

/// Tries of which the quickest counts, because some may meet a busy machine.
const TRIES: usize = 5;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Appends and delivers 128,000 messages.
async fn deliver_much(database: &Database) {
    database.insert(FIRST, FIRST).await;
    let mut connection = database.connection().await;
    connection.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await.unwrap();
    for doubling in 0..DOUBLINGS {
        let double = format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             SELECT aggregate_type, concat(aggregate_id, '-{doubling}'), event_type, 'x' FROM outbox_messages"
        );
        connection.batch_execute(&double).await.unwrap();
    }
    connection.batch_execute("DELETE FROM outbox_messages").await.unwrap();
}

/// How long the server takes to go once through everything that was delivered.
async fn one_pass(database: &Database) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        let began = Instant::now();
        database.execute("DO (SELECT count(*) FROM outbox_messages FORCE INDEX (PRIMARY))").await;
        quickest = quickest.min(began.elapsed());
    }
    quickest
}

fn quickest(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap()
}

/// Reads until a message came, and how long a read took: the median, because some may meet a busy machine.
async fn read_one(reader: &mut dyn Reader) -> Duration {
    let deadline = Instant::now() + PATIENCE;
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        let batch = reader.read(&LIMITS).await.unwrap();
        times.push(began.elapsed());
        if !batch.messages.is_empty() {
            times.sort_unstable();
            return times[times.len() / 2];
        }
        assert!(Instant::now() < deadline, "nothing was found by {} reads", times.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_due_and_missed_messages_are_found_promptly_while_a_snapshot_is_held() {
    let database = Database::create().await;
    let mut elsewhere = database.connection().await;
    elsewhere
        .batch_execute(
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT",
        )
        .await
        .unwrap();
    deliver_much(&database).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    for _ in 0..3 {
        reader.read(&LIMITS).await.unwrap();
    }

    let quick = one_pass(&database).await * PASSES;

    let mut news = Vec::new();
    for _ in 0..TRIES {
        database.insert(1, 1).await;
        news.push(read_one(&mut *reader).await);
    }
    let new = quickest(news);
    assert!(new < quick, "a read that found a new message took {new:?}, {PASSES} passes take {quick:?}");

    let scheduled = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
                     VALUES ('order', '1', 'placed', '', utc_timestamp(6) + INTERVAL 1 SECOND)";
    database.execute(scheduled).await;
    let due = read_one(&mut *reader).await;
    assert!(due < quick, "reads that waited for a message to become due took {due:?}, {PASSES} passes take {quick:?}");

    let waiting = TRIES as u64 + 1;
    let (mut sweeps, mut counts, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for _ in 0..TRIES {
        let began = Instant::now();
        let swept = reader.sweep(&ReadLimits { rows: 500, ..LIMITS }).await.unwrap();
        sweeps.push(began.elapsed());
        seen.extend(swept.messages.iter().map(|message| message.seq));
        let began = Instant::now();
        assert_eq!(storage.settler().backlog().await.unwrap().pending, waiting);
        counts.push(began.elapsed());
    }
    assert_eq!(seen.len() as u64, waiting, "a piece goes through everything, or is one of a rest");
    let (sweep, count) = (quickest(sweeps), quickest(counts));
    assert!(sweep < quick, "a sweep took {sweep:?}, {PASSES} passes take {quick:?}");
    assert!(count < quick, "measuring the backlog took {count:?}, {PASSES} passes take {quick:?}");
    elsewhere.batch_execute("COMMIT").await.expect("the snapshot was held all the time");
}
