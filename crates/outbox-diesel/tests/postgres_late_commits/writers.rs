//! Writers whose transactions stay open for a while after their last append.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::AsyncConnection;
use outbox_core::NewMessage;
use outbox_diesel::AppendError;
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::index};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::shop::{Connection, KEYS, Outbox, Shop, lock_and_count};

const WRITERS: u64 = 16;
const MAX_KEYS_PER_TRANSACTION: usize = 4;
const MAX_EVENTS_PER_KEY: i64 = 4;
const ROLLBACKS: f64 = 0.1;
const MAX_COMMIT_DELAY_MS: u64 = 200;

/// An event whose transaction committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) key: usize,
    /// Its place among the events of its key, from 1.
    pub(crate) n: i64,
}

#[derive(Debug)]
pub(crate) enum Stop {
    RolledBack,
    Failed(String),
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Commits at least this many events; all that were committed.
pub(crate) async fn write(shop: &Shop, events: usize) -> Vec<Event> {
    let seed = rand::rng().random_range(1..1_000_000);
    println!("seed of the writers: {seed}");
    let left = Arc::new(AtomicUsize::new(events));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let rng = StdRng::seed_from_u64(seed * 1_000 + number);
        writers.spawn(writer(shop.connection().await, left.clone(), rng));
    }
    writers.join_all().await.into_iter().flatten().collect()
}

async fn writer(mut conn: Connection, left: Arc<AtomicUsize>, mut rng: StdRng) -> Vec<Event> {
    let outbox = Outbox::default();
    let mut committed = Vec::new();
    while left.load(Ordering::Relaxed) > 0 {
        match transaction(&mut conn, &outbox, &mut rng).await {
            Ok(events) => {
                let _ =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(events.len())));
                committed.extend(events);
            }
            Err(Stop::RolledBack) => {}
            Err(Stop::Failed(error)) => panic!("a writer failed: {error}"),
        }
    }
    committed
}

async fn transaction(conn: &mut Connection, outbox: &Outbox, rng: &mut StdRng) -> Result<Vec<Event>, Stop> {
    let amount = rng.random_range(1..=MAX_KEYS_PER_TRANSACTION);
    let mut keys = index::sample(rng, KEYS, amount).into_vec();
    keys.sort_unstable(); // locks in one order, so that writers cannot deadlock
    let changes: Vec<(usize, i64)> =
        keys.into_iter().map(|key| (key, rng.random_range(1..=MAX_EVENTS_PER_KEY))).collect();
    let rolls_back = rng.random_bool(ROLLBACKS);
    let delay = Duration::from_millis(rng.random_range(0..=MAX_COMMIT_DELAY_MS));
    conn.transaction(async |conn| {
        let mut events = Vec::new();
        for &(key, count) in &changes {
            let last = lock_and_count(conn, key, count).await?;
            for n in last - count + 1..=last {
                let message = NewMessage::new("late", "late.event", n.to_string()).aggregate_id(key.to_string());
                events.push(Event { id: outbox.append(conn, &message).await?, key, n });
            }
        }
        // Not a wait for a condition: a transaction that stays open is what this is about.
        tokio::time::sleep(delay).await;
        if rolls_back { Err(Stop::RolledBack) } else { Ok(events) }
    })
    .await
}
