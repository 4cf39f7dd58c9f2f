//! Order per key with transactions that commit out of the order of their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection;
use outbox_core::Message;
use outbox_core::ports::{ReadLimits, Storage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::database::{Database, LIMITS, reader};

const KEYS: i64 = 60;
const WRITERS: u64 = 16;
const WRITING: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_that_commit_late_keep_the_order_of_their_keys() {
    Run::new(LIMITS, false).await.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_reads_keep_the_order_too() {
    Run::new(ReadLimits { rows: 40, ..LIMITS }, false).await.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_transaction_that_stays_open_changes_nothing() {
    Run::new(LIMITS, true).await.judge();
}

#[derive(Default)]
struct Run {
    written: u64,
    delivered: BTreeSet<i64>,
    last: BTreeMap<String, i64>,
    reordered: Vec<String>,
    left: i64,
}

impl Run {
    async fn new(limits: ReadLimits, long_writer: bool) -> Self {
        let database = Database::create().await;
        database
            .execute(&format!(
                "CREATE TABLE keys (key int PRIMARY KEY, n bigint NOT NULL DEFAULT 0); CREATE TABLE other (n int); \
                 INSERT INTO keys (key) SELECT generate_series(0, {})",
                KEYS - 1
            ))
            .await;
        let mut open = database.connection().await;
        if long_writer {
            open.batch_execute("BEGIN; INSERT INTO other VALUES (1)").await.unwrap();
        }
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = Vec::new();
        for seed in 0..WRITERS {
            let connection = database.connection().await;
            writers.push(tokio::spawn(write(connection, seed, stop.clone(), written.clone())));
        }
        let mut run = Self::default();
        run.relay(&database, limits, &stop).await;
        for writer in writers {
            writer.await.unwrap();
        }
        run.written = written.load(Ordering::SeqCst);
        run.left = database.number("SELECT count(*) FROM outbox_messages").await;
        run
    }

    /// Reads, and settles each batch while the next is read, until the writers have stopped and nothing comes any more.
    async fn relay(&mut self, database: &Database, limits: ReadLimits, stop: &AtomicBool) {
        let storage = database.storage();
        let mut reader = reader(&storage).await;
        let (began, mut last_found) = (Instant::now(), Instant::now());
        let mut settling = Vec::new();
        while last_found.elapsed() < Duration::from_secs(1) {
            if began.elapsed() > WRITING {
                stop.store(true, Ordering::SeqCst);
            }
            let (batch, settled) = tokio::join!(reader.read(&limits), storage.settler().settle(&settling));
            settled.unwrap();
            let batch = batch.unwrap();
            assert!(batch.messages.len() <= limits.rows);
            settling.clear();
            for message in &batch.messages {
                if self.delivered.insert(message.seq) {
                    settling.push(message.position());
                    last_found = Instant::now();
                    self.deliver(message);
                }
            }
            if batch.messages.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        storage.settler().settle(&settling).await.unwrap();
    }

    fn deliver(&mut self, message: &Message) {
        let key = message.aggregate_id.clone().expect("every message has a key");
        let n: i64 = std::str::from_utf8(message.payload.as_ref()).unwrap().parse().unwrap();
        let last = self.last.entry(key.clone()).or_insert(0);
        if n <= *last {
            self.reordered.push(format!("key {key}: {n} after {last}, seq {}", message.seq));
        }
        *last = (*last).max(n);
    }

    fn judge(self) {
        assert!(self.reordered.is_empty(), "{} reordered: {:?}", self.reordered.len(), self.reordered.first());
        assert_eq!(self.delivered.len() as u64, self.written, "every committed message was delivered, and no other");
        assert_eq!(self.left, 0, "rows were left behind");
        assert!(self.written > 1_000, "only {} messages were written", self.written);
    }
}

/// Transactions that lock their keys, append, stay open for a while, and sometimes roll back.
async fn write(
    mut connection: diesel_async::AsyncPgConnection,
    seed: u64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::SeqCst) {
        connection.batch_execute("BEGIN").await.unwrap();
        let wanted = [1, 1, 1, 2, 5][rng.random_range(0..5)];
        let keys: BTreeSet<i64> = (0..wanted).map(|_| rng.random_range(0..KEYS)).collect();
        for key in &keys {
            let append = format!(
                "WITH next AS (UPDATE keys SET n = n + 1 WHERE key = {key} RETURNING n) \
                 INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
                 SELECT 'order', '{key}', 'placed', convert_to(n::text, 'UTF8') FROM next"
            );
            connection.batch_execute(&append).await.unwrap();
        }
        if rng.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        }
        if rng.random_bool(0.1) {
            connection.batch_execute("ROLLBACK").await.unwrap();
        } else {
            connection.batch_execute("COMMIT").await.unwrap();
            written.fetch_add(keys.len() as u64, Ordering::SeqCst);
        }
    }
}
