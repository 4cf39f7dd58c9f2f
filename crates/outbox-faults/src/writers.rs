use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use outbox::{NewMessage, PostgresOutbox};
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::index};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    database::{self, AGGREGATE_TYPE, BURST, KEYS},
    pace::Pace,
    topic::Body,
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

#[derive(QueryableByName)]
struct Counter {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// How a transaction ended early.
#[derive(Debug)]
enum Stop {
    RolledBack(u64),
    Failed(anyhow::Error),
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Writers {
    /// Starts them on the current runtime. Each has a connection and a seed of its own.
    pub(crate) fn start(url: &str, pace: &Arc<Pace>, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
            tasks.spawn(write(url.to_owned(), pace.clone(), rng));
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

async fn write(url: String, pace: Arc<Pace>, mut rng: StdRng) -> Result<WriterTally> {
    let outbox = PostgresOutbox::default();
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
        match transaction(conn, &outbox, &mut rng).await {
            Ok(events) => pace.add(events),
            Err(Stop::RolledBack(events)) => tally.rolled_back += events,
            Err(Stop::Failed(error)) => {
                tally.failed += 1;
                tally.last_failure = Some(format!("{error:#}"));
                connection = None;
            }
        }
    }
    Ok(tally)
}

/// Commits about this many events at once, so that a relay that is hit right afterwards has its window full; how many.
pub(crate) async fn burst(conn: &mut AsyncPgConnection, events: u64) -> Result<u64> {
    let keys = i64::try_from(KEYS)?;
    let each = (i64::try_from(events)? / keys).max(1);
    let outbox = PostgresOutbox::default();
    conn.transaction::<_, anyhow::Error, _>(async |conn| {
        let mut events = 0;
        for key in 0..KEYS {
            events += change(conn, &outbox, BURST, &database::key(key), each).await?;
        }
        Ok(events)
    })
    .await
}

/// Changes a few keys and appends the events of each change; how many.
async fn transaction(conn: &mut AsyncPgConnection, outbox: &PostgresOutbox, rng: &mut StdRng) -> Result<u64, Stop> {
    let amount = rng.random_range(1..=KEYS_PER_TRANSACTION);
    let mut keys: Vec<usize> = index::sample(rng, KEYS, amount).into_vec();
    keys.sort_unstable(); // locks in one order, so that writers cannot deadlock
    let changes: Vec<(String, i64)> =
        keys.into_iter().map(|key| (database::key(key), rng.random_range(1..=EVENTS_PER_KEY))).collect();
    let delay = Duration::from_millis(rng.random_range(0..=COMMIT_DELAY_MS));
    let rolls_back = rng.random_bool(ROLLBACKS);
    conn.transaction(async |conn| {
        let mut events = 0;
        for (key, count) in &changes {
            events += change(conn, outbox, "fault-run.event", key, *count).await?;
        }
        tokio::time::sleep(delay).await;
        if rolls_back { Err(Stop::RolledBack(events)) } else { Ok(events) }
    })
    .await
}

async fn change(
    conn: &mut AsyncPgConnection,
    outbox: &PostgresOutbox,
    kind: &str,
    key: &str,
    count: i64,
) -> Result<u64> {
    let counter: Counter = sql_query("UPDATE counters SET n = n + $1 WHERE key = $2 RETURNING n")
        .bind::<BigInt, _>(count)
        .bind::<Text, _>(key)
        .get_result(conn)
        .await?;
    let numbers: Vec<i64> = (counter.n - count + 1..=counter.n).collect();
    let mut messages = Vec::with_capacity(numbers.len());
    for &n in &numbers {
        let body = serde_json::to_vec(&Body { key: key.to_owned(), n })?;
        messages.push(NewMessage::new(AGGREGATE_TYPE, kind, body).aggregate_id(key));
    }
    let ids: Vec<Uuid> = outbox.append_all(conn, &messages).await?;
    let events = ids.len() as u64;
    sql_query("INSERT INTO record SELECT id, $2, n FROM unnest($1, $3) AS event (id, n)")
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(key)
        .bind::<Array<BigInt>, _>(numbers)
        .execute(conn)
        .await?;
    Ok(events)
}
