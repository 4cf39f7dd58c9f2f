use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use outbox::NewMessage;
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::index};
use tokio::task::JoinSet;

use crate::{
    database::{self, Connection},
    events::{self, BURST, Body, EVENT},
    pace::Pace,
};

const WRITERS: u64 = 8;
const KEYS_PER_TRANSACTION: usize = 4;
const EVENTS_PER_KEY: i64 = 4;
/// Share of transactions that roll back at their end.
const ROLLBACKS: f64 = 0.1;
/// The longest wait between the last append and the commit: others commit meanwhile.
const COMMIT_DELAY_MS: u64 = 50;
const IDLE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_millis(100);

/// Writers at work.
pub(crate) struct Writers {
    tasks: JoinSet<Result<WriterTally>>,
}

/// What the writers know of their transactions.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriterTally {
    /// Events of transactions that were rolled back on purpose.
    pub(crate) rolled_back: u64,
    /// Transactions that failed, most of them with the server; whether they committed, only the record knows.
    pub(crate) failed: u64,
    /// Why the last one of them failed.
    pub(crate) last_failure: Option<String>,
}

/// What a transaction does.
struct Work {
    /// Keys and how many events each gets, in the order of the keys: locks in one order, so that writers cannot deadlock.
    changes: Vec<(String, i64)>,
    /// The wait between the last append and the end.
    delay: Duration,
    rolls_back: bool,
}

impl Writers {
    /// Starts them on the current runtime. Each has a connection and a seed of its own.
    pub(crate) fn start(url: &str, keys: &Arc<[String]>, pace: &Arc<Pace>, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
            tasks.spawn(write(url.to_owned(), keys.clone(), pace.clone(), rng));
        }
        Self { tasks }
    }

    /// Waits until enough is committed.
    pub(crate) async fn finish(mut self, limit: Duration) -> Result<WriterTally> {
        let all = async {
            let mut sum = WriterTally::default();
            while let Some(tally) = self.tasks.join_next().await {
                let tally = tally.context("a writer panicked")??;
                sum.rolled_back += tally.rolled_back;
                sum.failed += tally.failed;
                sum.last_failure = sum.last_failure.or(tally.last_failure);
            }
            Ok(sum)
        };
        tokio::time::timeout(limit, all).await.context("the writers did not get to their end in time")?
    }
}

async fn write(url: String, keys: Arc<[String]>, pace: Arc<Pace>, mut rng: StdRng) -> Result<WriterTally> {
    let mut tally = WriterTally::default();
    let mut connection = None;
    while !pace.is_done() {
        if !pace.may_write() {
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let Some(conn) = &mut connection else {
            match database::connect(&url).await {
                Ok(conn) => connection = Some(conn),
                Err(_) => tokio::time::sleep(RECONNECT).await, // the server is away: part of the run
            }
            continue;
        };
        let work = Work::choose(&keys, &mut rng);
        match transaction(conn.as_mut(), EVENT, &work).await {
            Ok(events) if work.rolls_back => tally.rolled_back += events,
            Ok(events) => pace.add(events),
            Err(error) => {
                tally.failed += 1;
                tally.last_failure = Some(format!("{error:#}"));
                connection = None;
            }
        }
    }
    Ok(tally)
}

/// Commits about this many events at once, so that a relay that is hit right afterwards has its window full; how many.
pub(crate) async fn burst(conn: &mut dyn Connection, keys: &[String], events: u64) -> Result<u64> {
    let each = (i64::try_from(events)? / i64::try_from(keys.len())?).max(1);
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let changes = keys.into_iter().map(|key| (key, each)).collect();
    transaction(conn, BURST, &Work { changes, delay: Duration::ZERO, rolls_back: false }).await
}

impl Work {
    fn choose(keys: &[String], rng: &mut StdRng) -> Self {
        let amount = rng.random_range(1..=KEYS_PER_TRANSACTION);
        let mut chosen: Vec<&String> = index::sample(rng, keys.len(), amount).into_iter().map(|n| &keys[n]).collect();
        chosen.sort_unstable();
        let changes = chosen.into_iter().map(|key| (key.clone(), rng.random_range(1..=EVENTS_PER_KEY))).collect();
        let delay = Duration::from_millis(rng.random_range(0..=COMMIT_DELAY_MS));
        Self { changes, delay, rolls_back: rng.random_bool(ROLLBACKS) }
    }
}

/// Changes a few keys, appends the events of each change, and commits or rolls back; how many events.
async fn transaction(conn: &mut dyn Connection, kind: &str, work: &Work) -> Result<u64> {
    conn.begin().await?;
    let mut events = 0;
    for (key, count) in &work.changes {
        events += change(conn, kind, key, *count).await?;
    }
    tokio::time::sleep(work.delay).await;
    if work.rolls_back {
        conn.roll_back().await?
    } else {
        conn.commit().await?
    }
    Ok(events)
}

async fn change(conn: &mut dyn Connection, kind: &str, key: &str, count: i64) -> Result<u64> {
    let last = conn.count_up(key, count).await?;
    let numbers = last - count + 1..=last;
    let mut messages = Vec::new();
    for n in numbers.clone() {
        let body = serde_json::to_vec(&Body { key: key.to_owned(), n })?;
        messages.push(NewMessage::new(events::aggregate_type(key), kind, body).aggregate_id(key));
    }
    let ids = conn.append(&messages).await?;
    let events: Vec<_> = ids.into_iter().zip(numbers).collect();
    conn.record(key, &events).await?;
    Ok(events.len() as u64)
}
