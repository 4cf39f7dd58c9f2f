use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ports::{Batch, ReadLimits, Reader, ShardId, Storage, StorageError};

/// The first wait after a read that brought something; it doubles with every empty read up to the polling interval.
const BUSY_WAIT: Duration = Duration::from_millis(2);
/// Messages that a piece of the sweep asks for.
const SWEEP_ROWS: usize = 500;

/// When and where to read next.
pub(super) struct Intake {
    reader: Option<Box<dyn Reader>>,
    op: Option<BoxFuture<'static, IntakeEvent>>,
    /// A read that began before a message was settled is still running.
    pub(super) reading: bool,
    pub(super) next_read: Instant,
    next_sweep: Instant,
    wait: Duration,
    /// Rewinds asked for while a read is running; rows at or above them are dropped until they are done.
    rewinds: BTreeMap<ShardId, i64>,
    assigned: Vec<ShardId>,
    assignment_changed: bool,
    failures: u32,
}

pub(super) enum IntakeEvent {
    /// The storage was checked and a reader made.
    Opened(Result<Box<dyn Reader>, StorageError>),
    /// A read or a piece of the sweep returned.
    Read { reader: Box<dyn Reader>, swept: bool, took: Duration, result: Result<Batch, StorageError> },
}

/// What a read says about when to read again.
pub(super) struct Pace {
    /// A limit cut the read, and it got further.
    pub(super) more: bool,
    pub(super) found: bool,
    pub(super) next_due_in: Option<Duration>,
}

impl Intake {
    pub(super) fn new(now: Instant, sweep_interval: Duration) -> Self {
        Self {
            reader: None,
            op: None,
            reading: false,
            next_read: now,
            next_sweep: now + sweep_interval,
            wait: BUSY_WAIT,
            rewinds: BTreeMap::new(),
            assigned: Vec::new(),
            assignment_changed: false,
            failures: 0,
        }
    }

    pub(super) async fn event(&mut self) -> IntakeEvent {
        let Some(op) = &mut self.op else { return std::future::pending().await };
        let event = op.await;
        self.op = None;
        event
    }

    /// Opens a reader when there is none and the wait after a failure is over.
    pub(super) fn open_when_due(&mut self, storage: &Arc<dyn Storage>, now: Instant) {
        if self.op.is_some() || self.reader.is_some() || now < self.next_read {
            return;
        }
        let storage = storage.clone();
        self.op = Some(Box::pin(
            async move {
                let opened = async {
                    storage.check().await?;
                    storage.reader().await
                };
                IntakeEvent::Opened(opened.await)
            }
            .instrument(tracing::debug_span!("outbox.open_reader")),
        ));
    }

    pub(super) fn opened(&mut self, reader: Box<dyn Reader>) {
        self.reader = Some(reader);
        self.assignment_changed = true;
        self.rewinds.clear();
        self.failures = 0;
    }

    /// Sets the shards to read.
    pub(super) fn assign(&mut self, shards: Vec<ShardId>) {
        if self.assigned != shards {
            self.rewinds.retain(|shard, _| shards.contains(shard));
            self.assigned = shards;
            self.assignment_changed = true;
            self.wake();
        }
    }

    /// Asks for everything from `seq` on to be read again.
    pub(super) fn rewind(&mut self, shard: ShardId, seq: i64) {
        let from = self.rewinds.entry(shard).or_insert(seq);
        *from = (*from).min(seq);
        self.next_read = Instant::now();
    }

    /// Whether a row will be read again anyway, so that taking it now could overtake an earlier one.
    pub(super) fn will_be_read_again(&self, shard: ShardId, seq: i64) -> bool {
        self.rewinds.get(&shard).is_some_and(|&from| seq >= from)
    }

    /// Starts a read, or a piece of the sweep when that is due.
    pub(super) fn read(&mut self, now: Instant, mut limits: ReadLimits, sweep_interval: Duration) {
        if self.op.is_some() || self.assigned.is_empty() {
            return;
        }
        let sweep = now >= self.next_sweep;
        if !sweep && now < self.next_read {
            return;
        }
        let Some(mut reader) = self.reader.take() else { return };
        if std::mem::take(&mut self.assignment_changed) {
            reader.assign(&self.assigned);
        }
        for (shard, seq) in std::mem::take(&mut self.rewinds) {
            reader.rewind(shard, seq);
        }
        if sweep {
            self.next_sweep = now + sweep_interval;
            limits.rows = limits.rows.min(SWEEP_ROWS);
        }
        self.reading = true;
        self.op = Some(Box::pin(
            async move {
                let result = if sweep { reader.sweep(&limits).await } else { reader.read(&limits).await };
                IntakeEvent::Read { reader, swept: sweep, took: now.elapsed(), result }
            }
            .instrument(tracing::debug_span!("outbox.read")),
        ));
    }

    /// Takes the reader back and decides when to read again.
    pub(super) fn returned(&mut self, reader: Box<dyn Reader>, pace: Pace, swept: bool, polling_interval: Duration) {
        self.reader = Some(reader);
        self.failures = 0;
        if swept {
            return;
        }
        let now = Instant::now();
        if pace.more {
            self.wait = BUSY_WAIT;
            self.next_read = now;
            return;
        }
        self.wait = if pace.found { BUSY_WAIT } else { self.wait * 2 }.min(polling_interval);
        let due = pace.next_due_in.unwrap_or(self.wait).max(Duration::from_millis(1));
        self.next_read = now + self.wait.min(due);
        if !self.rewinds.is_empty() {
            self.next_read = now;
        }
    }

    /// A read failed. The reader goes on where it was, or a new one starts at the bottom.
    pub(super) fn failed(&mut self, reader: Option<Box<dyn Reader>>, retry_in: Duration) {
        self.reader = reader;
        self.next_read = Instant::now() + retry_in;
        self.next_sweep = self.next_sweep.max(self.next_read);
    }

    pub(super) fn count_failure(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Something may have been appended.
    pub(super) fn wake(&mut self) {
        self.wait = BUSY_WAIT;
        self.next_read = Instant::now();
    }

    /// When to look again; `None` while a call is running.
    pub(super) fn next_action(&self) -> Option<Instant> {
        if self.op.is_some() || (self.reader.is_some() && self.assigned.is_empty()) {
            return None;
        }
        Some(if self.reader.is_some() { self.next_read.min(self.next_sweep) } else { self.next_read })
    }
}
