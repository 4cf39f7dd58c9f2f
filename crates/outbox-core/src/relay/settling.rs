use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ports::{Position, Storage, StorageError};

/// Positions in one removal.
const SETTLE_ROWS: usize = 4_000;

/// Removes confirmed messages, one statement at a time.
pub(super) struct Settling {
    queue: Vec<Position>,
    op: Option<BoxFuture<'static, Settled>>,
    not_before: Option<Instant>,
    failures: u32,
}

pub(super) struct Settled {
    pub(super) took: Duration,
    pub(super) positions: Vec<Position>,
    pub(super) result: Result<(), StorageError>,
}

impl Settling {
    pub(super) fn new() -> Self {
        Self { queue: Vec::new(), op: None, not_before: None, failures: 0 }
    }

    pub(super) fn push(&mut self, position: Position) {
        self.queue.push(position);
    }

    pub(super) fn start(&mut self, storage: &Arc<dyn Storage>, now: Instant) {
        if self.op.is_some() || self.queue.is_empty() || self.not_before.is_some_and(|time| now < time) {
            return;
        }
        let rest = self.queue.split_off(self.queue.len().min(SETTLE_ROWS));
        let positions = std::mem::replace(&mut self.queue, rest);
        let storage = storage.clone();
        self.not_before = None;
        self.op = Some(Box::pin(
            async move {
                let result = storage.settler().settle(&positions).await;
                Settled { took: now.elapsed(), positions, result }
            }
            .instrument(tracing::debug_span!("outbox.settle")),
        ));
    }

    pub(super) async fn event(&mut self) -> Settled {
        let Some(op) = &mut self.op else { return std::future::pending().await };
        let settled = op.await;
        self.op = None;
        settled
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The same positions are tried again later: removing a row twice is harmless, forgetting one is a duplicate.
    pub(super) fn failed(&mut self, positions: Vec<Position>, retry: impl FnOnce(u32) -> Duration) {
        self.failures = self.failures.saturating_add(1);
        self.queue.splice(0..0, positions);
        self.not_before = Some(Instant::now() + retry(self.failures));
    }

    pub(super) fn next_action(&self) -> Option<Instant> {
        if self.op.is_some() || self.queue.is_empty() { None } else { self.not_before }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.op.is_none() && self.queue.is_empty()
    }
}
