use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use outbox_core::inbox::{InboxStorage, Partition, RememberedPosition};
use outbox_core::ports::StorageError;
use tokio::time::Instant;

use super::Context;
use super::held::optional;

/// Between two times that positions are written down. They only tell a reset from a redelivery, and may lag.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the inbox remembers of its partitions.
///
/// A partition went back when it starts below what was consumed *before its start was asked for*. A position that was read after that may be
/// the work of another consumer that has had the partition meanwhile, while this one stood still. So the positions are read before the subscription
/// begins, and later ones count only when this subscription told them.
pub(super) struct PositionsRoom {
    known: BTreeMap<Partition, i64>,
    /// What the broker holds durably and the database does not know yet.
    new: BTreeMap<Partition, i64>,
    writing: Option<BoxFuture<'static, Result<(), Unwritten>>>,
    next_write: Instant,
}

/// What could not be written down, and why.
type Unwritten = (BTreeMap<Partition, i64>, StorageError);

impl PositionsRoom {
    pub(super) fn new(now: Instant) -> Self {
        Self { known: BTreeMap::new(), new: BTreeMap::new(), writing: None, next_write: now + INTERVAL }
    }

    /// A subscription began after this was read.
    pub(super) fn subscribed(&mut self, positions: Vec<RememberedPosition>) {
        self.known = positions.into_iter().map(|known| (known.partition, known.position)).collect();
    }

    /// What was consumed of a partition, up to and including this position.
    pub(super) fn of(&self, partition: &Partition) -> Option<i64> {
        self.known.get(partition).copied()
    }

    pub(super) fn acknowledged(&mut self, positions: Vec<(Partition, i64)>) {
        for (partition, position) in positions {
            let known = self.known.entry(partition.clone()).or_insert(position);
            *known = (*known).max(position);
            self.new.insert(partition, *known);
        }
    }

    pub(super) fn start<S: InboxStorage>(&mut self, context: &Arc<Context<S>>, now: Instant) {
        if now >= self.next_write && self.writing.is_none() && !self.new.is_empty() {
            self.next_write = now + INTERVAL;
            self.writing = Some(write(context.clone(), std::mem::take(&mut self.new)));
        }
    }

    /// Waits for what is being written. What was not written is written the next time.
    pub(super) async fn written(&mut self) -> Result<(), StorageError> {
        optional(&mut self.writing).await.map_err(|unwritten| self.take_back(unwritten))
    }

    pub(super) fn next_action(&self) -> Option<Instant> {
        (!self.new.is_empty() && self.writing.is_none()).then_some(self.next_write)
    }

    /// Writes down what is new, at the end.
    pub(super) async fn finish<S: InboxStorage>(mut self, context: &Arc<Context<S>>) {
        if let Some(writing) = self.writing.take()
            && let Err(unwritten) = writing.await
        {
            self.take_back(unwritten);
        }
        if !self.new.is_empty() && write(context.clone(), self.new).await.is_err() {
            tracing::debug!("the last positions are not remembered");
        }
    }

    fn take_back(&mut self, (positions, error): Unwritten) -> StorageError {
        for (partition, position) in positions {
            self.new.entry(partition).or_insert(position); // what is there is newer
        }
        error
    }
}

fn write<S: InboxStorage>(
    context: Arc<Context<S>>,
    positions: BTreeMap<Partition, i64>,
) -> BoxFuture<'static, Result<(), Unwritten>> {
    Box::pin(async move {
        let remembered = |(partition, position): (&Partition, &i64)| RememberedPosition {
            partition: partition.clone(),
            position: *position,
        };
        let rows: Vec<_> = positions.iter().map(remembered).collect();
        let written = context.storage.memory().remember(&context.consumer, &rows);
        context.limited("remembering positions", written).await.map_err(|error| (positions, error))
    })
}
