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

/// Reads and writes what the inbox remembers of its partitions.
pub(super) struct PositionsRoom {
    /// What the broker holds durably and the database does not know yet.
    new: BTreeMap<Partition, i64>,
    writing: Option<BoxFuture<'static, Result<(), StorageError>>>,
    next_write: Instant,
    loading: Option<BoxFuture<'static, Loaded>>,
    is_load_wanted: bool,
    next_load: Instant,
    failures: u32,
}

/// What was remembered.
pub(super) type Loaded = Result<Vec<RememberedPosition>, StorageError>;

pub(super) enum PositionsEvent {
    Loaded(Loaded),
    Written(Result<(), StorageError>),
}

impl PositionsRoom {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            new: BTreeMap::new(),
            writing: None,
            next_write: now + INTERVAL,
            loading: None,
            is_load_wanted: false,
            next_load: now,
            failures: 0,
        }
    }

    /// Partitions were assigned: what is remembered of them must be read *after* that.
    pub(super) fn load(&mut self) {
        self.is_load_wanted = true;
        self.loading = None;
    }

    pub(super) fn acknowledged(&mut self, positions: Vec<(Partition, i64)>) {
        for (partition, position) in positions {
            let known = self.new.entry(partition).or_insert(position);
            *known = (*known).max(position);
        }
    }

    pub(super) fn start<S: InboxStorage>(&mut self, context: &Arc<Context<S>>, now: Instant) {
        if self.is_load_wanted && self.loading.is_none() && now >= self.next_load {
            self.is_load_wanted = false;
            let context = context.clone();
            self.loading = Some(Box::pin(async move {
                let positions = context.storage.memory().positions(&context.consumer);
                context.limited("reading the remembered positions", positions).await
            }));
        }
        if now >= self.next_write && self.writing.is_none() && !self.new.is_empty() {
            self.next_write = now + INTERVAL;
            self.writing = Some(write(context.clone(), std::mem::take(&mut self.new)));
        }
    }

    pub(super) async fn event(&mut self) -> PositionsEvent {
        tokio::select! {
            biased;
            loaded = optional(&mut self.loading) => PositionsEvent::Loaded(loaded),
            written = optional(&mut self.writing) => PositionsEvent::Written(written),
        }
    }

    /// A load failed: again after a wait.
    pub(super) fn load_failed<S: InboxStorage>(&mut self, context: &Context<S>) {
        self.failures = self.failures.saturating_add(1);
        self.is_load_wanted = true;
        self.next_load = Instant::now() + context.delay(&context.config.reconnect, self.failures);
    }

    pub(super) fn loaded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next_action(&self) -> Option<Instant> {
        let load = (self.is_load_wanted && self.loading.is_none()).then_some(self.next_load);
        let write = (!self.new.is_empty() && self.writing.is_none()).then_some(self.next_write);
        load.into_iter().chain(write).min()
    }

    /// Writes down what is new, at the end.
    pub(super) async fn finish<S: InboxStorage>(mut self, context: &Arc<Context<S>>) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        if !self.new.is_empty() && write(context.clone(), self.new).await.is_err() {
            tracing::debug!("the last positions are not remembered");
        }
    }
}

fn write<S: InboxStorage>(
    context: Arc<Context<S>>,
    positions: BTreeMap<Partition, i64>,
) -> BoxFuture<'static, Result<(), StorageError>> {
    let positions: Vec<_> =
        positions.into_iter().map(|(partition, position)| RememberedPosition { partition, position }).collect();
    Box::pin(async move {
        let remembered = context.storage.memory().remember(&context.consumer, &positions);
        context.limited("remembering positions", remembered).await
    })
}
