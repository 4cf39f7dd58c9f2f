//! A relay at full speed never makes a producer wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{ReadLimits, Storage};
use outbox_diesel::mysql::MysqlStorage;

use crate::database::{Database, LIMITS, reader};

const PRODUCERS: usize = 8;
const WRITING: Duration = Duration::from_secs(4);
/// An insert that waited for a lock would take at least as long as the longest statement of the relay; one that waits for two busy
/// processors does not come near.
const LONGEST: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn producers_meet_no_lock_of_a_relay_that_reads_sweeps_and_settles_at_full_speed() {
    let database = Arc::new(Database::create().await);
    let alone = produce(&database).await;
    database.execute("DELETE FROM outbox_messages").await;

    let storage = database.storage();
    let stop = Arc::new(AtomicBool::new(false));
    let relay = tokio::spawn(deliver(storage.clone(), stop.clone()));
    let beside = produce(&database).await;
    stop.store(true, Ordering::Relaxed);
    let delivered = relay.await.unwrap();

    let (p99_alone, p99_beside) = (percentile(&alone, 99), percentile(&beside, 99));
    println!(
        "{} inserts alone with p99 {p99_alone:?}, {} beside a relay that delivered {delivered} with p99 {p99_beside:?}: ratio {:.2}",
        alone.len(),
        beside.len(),
        p99_beside.as_secs_f64() / p99_alone.as_secs_f64()
    );
    assert!(delivered > 0);
    let longest = percentile(&beside, 100);
    assert!(longest < LONGEST, "an insert took {longest:?}");
}

/// What each insert took, its commit included. Any error, as of a deadlock or of a lock that was not released in time, fails the test.
async fn produce(database: &Arc<Database>) -> Vec<Duration> {
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let database = database.clone();
        producers.spawn(async move {
            let mut connection = database.connection().await;
            connection.batch_execute("SET SESSION innodb_lock_wait_timeout = 1").await.expect("the session is set up");
            let until = Instant::now() + WRITING;
            let mut times = Vec::new();
            let mut number = 0;
            while Instant::now() < until {
                number += 1;
                let text = format!(
                    "BEGIN; INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) VALUES \
                     ('order', '{producer}-{number}', 'placed', repeat('x', 300)), ('order', '{}', 'placed', 'y'); COMMIT",
                    number % 50
                );
                let began = Instant::now();
                connection.batch_execute(&text).await.unwrap_or_else(|error| panic!("a producer failed: {error}"));
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times: Vec<_> = producers.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    times
}

async fn deliver(storage: Arc<MysqlStorage>, stop: Arc<AtomicBool>) -> usize {
    let mut reader = reader(&storage).await;
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        let batch = reader.read(&LIMITS).await.expect("the relay reads");
        let positions: Vec<_> = batch.messages.iter().map(|message| message.position()).collect();
        storage.settler().settle(&positions).await.expect("the relay settles");
        delivered += positions.len();
        reader.sweep(&ReadLimits { rows: 500, ..LIMITS }).await.expect("the relay sweeps");
    }
    delivered
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
