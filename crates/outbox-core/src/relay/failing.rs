use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::message::LaneKey;
use crate::ports::{Burial, FailureMark, Fenced, Lease, Position, ShardId, Storage, StorageError};

/// Fenced writes that may run at the same time.
const CONCURRENT: usize = 8;

/// Writes failures down: the next attempt's time, or the move to the dead letters.
pub(super) struct Failing {
    queue: VecDeque<Task>,
    running: FuturesUnordered<BoxFuture<'static, (Task, Result<Fenced, StorageError>)>>,
    /// Where the running writes are, with their epochs.
    open: Vec<(Position, i64)>,
    not_before: Option<Instant>,
    failures: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) lane: Option<LaneKey>,
    pub(super) lease: Lease,
    pub(super) write: Write,
    /// Number of loads of parked keys when it was decided.
    pub(super) loads: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Write {
    Retry(FailureMark),
    Bury(Burial),
}

impl Task {
    pub(super) fn position(&self) -> Position {
        match &self.write {
            Write::Retry(mark) => mark.position,
            Write::Bury(burial) => burial.position,
        }
    }
}

impl Failing {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            running: FuturesUnordered::new(),
            open: Vec::new(),
            not_before: None,
            failures: 0,
        }
    }

    pub(super) fn push(&mut self, task: Task) {
        self.queue.push_back(task);
    }

    pub(super) fn start(&mut self, storage: &Arc<dyn Storage>, owner: Uuid, now: Instant) {
        if self.not_before.is_some_and(|time| now < time) {
            return;
        }
        self.not_before = None;
        while self.running.len() < CONCURRENT {
            let Some(task) = self.queue.pop_front() else { return };
            let storage = storage.clone();
            self.open.push((task.position(), task.lease.epoch));
            self.running.push(Box::pin(
                async move {
                    let result = match &task.write {
                        Write::Retry(mark) => storage.settler().retry_later(owner, &task.lease, mark).await,
                        Write::Bury(burial) => storage.settler().bury(owner, &task.lease, burial).await,
                    };
                    (task, result)
                }
                .instrument(tracing::debug_span!("outbox.fail")),
            ));
        }
    }

    pub(super) async fn event(&mut self) -> (Task, Result<Fenced, StorageError>) {
        match self.running.next().await {
            Some(done) => {
                let written = (done.0.position(), done.0.lease.epoch);
                self.open.retain(|open| *open != written);
                done
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Writes it again later: the reply may be lost, and both writes may be repeated.
    pub(super) fn failed(&mut self, task: Task, retry: impl FnOnce(u32) -> Duration) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + retry(self.failures));
        self.queue.push_front(task);
    }

    /// Forgets a shard. Returns what was to be written of it; what is running is ignored when it returns.
    pub(super) fn forget_shard(&mut self, shard: ShardId) -> Vec<Position> {
        let mut gone: Vec<Position> = self.queue.iter().map(Task::position).collect();
        gone.extend(self.open.iter().map(|(position, _)| *position));
        gone.retain(|position| position.shard == shard);
        self.queue.retain(|task| task.position().shard != shard);
        self.open.retain(|(position, _)| position.shard != shard);
        gone
    }

    pub(super) fn next_action(&self) -> Option<Instant> {
        if self.queue.is_empty() { None } else { self.not_before }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }
}
