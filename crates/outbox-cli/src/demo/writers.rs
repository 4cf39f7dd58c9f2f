//! Writers that change orders at a steady rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use outbox::RelayHandle;
use rand::{RngExt as _, seq::index};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{life::Current, shop::Shop, tally::Tally};
use crate::interrupt::Interrupt;

/// Share of the transactions that is rolled back on purpose.
const ROLL_BACK_SHARE: f64 = 0.1;
/// Most orders that one transaction changes.
const MOST_ORDERS: u64 = 24;

/// What the writers shall do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Writers.
    pub(super) writers: usize,
    /// Events to commit, all writers together.
    pub(super) events: u64,
    /// Different orders.
    pub(super) orders: u32,
    /// Events a second, all writers together; 0: as fast as possible.
    pub(super) rate: u32,
}

/// When the events of a transaction were committed.
pub(super) struct Commit {
    /// The messages.
    pub(super) ids: Vec<Uuid>,
    /// When the commit returned.
    pub(super) at: Instant,
}

/// Runs the writers until all events are committed or the demo is interrupted.
///
/// # Errors
///
/// The first failure of a writer.
///
/// # Cancellation
///
/// Ends all writers.
pub(super) async fn run(
    shop: Arc<dyn Shop>,
    work: Work,
    relay: Current<RelayHandle>,
    tally: Arc<Tally>,
    interrupt: Interrupt,
) -> Result<Vec<Commit>> {
    let start = Instant::now();
    let reserved = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..work.writers {
        let writer = Pace { work, start, reserved: reserved.clone() };
        writers.spawn(write(shop.clone(), writer, relay.clone(), tally.clone(), interrupt.clone()));
    }
    let mut commits = Vec::new();
    while let Some(ended) = writers.join_next().await {
        commits.extend(ended.context("a writer panicked")??);
    }
    Ok(commits)
}

async fn write(
    shop: Arc<dyn Shop>,
    pace: Pace,
    relay: Current<RelayHandle>,
    tally: Arc<Tally>,
    interrupt: Interrupt,
) -> Result<Vec<Commit>> {
    let mut writer = shop.writer().await?;
    let mut commits = Vec::new();
    while !interrupt.came() {
        // Rolled-back transactions do not count against the plan, so the plan's events are all committed.
        let roll_back = rand::random_bool(ROLL_BACK_SHARE);
        let Some(orders) = pace.next(roll_back).await else { break };
        let ids = writer.change(&orders, roll_back).await?;
        if roll_back {
            tally.rolled_back(ids.len() as u64);
            continue;
        }
        let at = Instant::now();
        relay.get().nudge();
        tally.committed(ids.len() as u64);
        commits.push(Commit { ids, at });
    }
    Ok(commits)
}

/// Shares the plan among the writers and keeps its rate.
struct Pace {
    work: Work,
    start: Instant,
    reserved: Arc<AtomicU64>,
}

impl Pace {
    /// The orders of the next transaction, sorted, when it is time for it; `None`: the plan is done.
    async fn next(&self, roll_back: bool) -> Option<Vec<i64>> {
        let most = MOST_ORDERS.min(u64::from(self.work.orders));
        let wish = rand::rng().random_range(1..=most);
        let take = |before: u64| (before < self.work.events).then(|| (before + wish).min(self.work.events));
        let before = self.reserved.load(Ordering::Relaxed);
        let (before, count) = if roll_back {
            take(before).map(|_| (before, wish))?
        } else {
            let before = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
            (before, wish.min(self.work.events - before))
        };
        if self.work.rate > 0 {
            let due = Duration::from_secs_f64(before as f64 / f64::from(self.work.rate));
            tokio::time::sleep_until((self.start + due).into()).await;
        }
        let mut orders: Vec<i64> = index::sample(&mut rand::rng(), self.work.orders as usize, count as usize)
            .iter()
            .map(|i| i as i64 + 1)
            .collect();
        orders.sort_unstable();
        Some(orders)
    }
}
