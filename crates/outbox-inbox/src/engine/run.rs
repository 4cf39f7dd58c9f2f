use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use outbox_core::inbox::{InboxStorage, Source};
use outbox_core::ports::StorageError;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Context;
use super::batches::{self, Done};
use super::held::{HeldEvent, HeldRoom};
use super::lanes::Lanes;
use super::partitions::Partitions;
use super::positions::PositionsRoom;
use super::receiving::{Link, LinkEvent, Revoking};
use super::retention::{Purge, RetentionRoom};
use super::sequences::Sequences;
use super::work::Work;
use crate::defect::has_defect;
use crate::health::Vitals;
use crate::stats::{InboxStats, set};
use crate::{InboxError, InboxReport};

/// The shortest wait of the loop: the resolution of tokio's timer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// How long leaving the broker may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// All state of a running inbox, and the loop that owns it.
pub(crate) struct Engine<S: InboxStorage> {
    pub(super) context: Arc<Context<S>>,
    pub(super) source: Arc<dyn Source>,
    pub(super) link: Link,
    pub(super) link_failures: u32,
    pub(super) was_connected: bool,
    pub(super) partitions: Partitions,
    pub(super) revoking: Option<Revoking>,
    pub(super) lanes: Lanes,
    pub(super) positions: PositionsRoom,
    pub(super) sequences: Option<Sequences>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    held: HeldRoom,
    retention: RetentionRoom,
    stopping: Option<Instant>,
    reported: InboxStats,
}

enum Event {
    Shutdown,
    Done(Done),
    Held(HeldEvent),
    Positions(Result<(), StorageError>),
    Purged(Purge),
    Link(LinkEvent),
    Timer,
}

impl<S: InboxStorage> Engine<S> {
    /// Runs an inbox to its end; see [`Inbox::run`](crate::Inbox::run).
    pub(crate) async fn start(
        context: Arc<Context<S>>,
        source: Arc<dyn Source>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<InboxReport, InboxError> {
        let mut shutdown = pin!(shutdown);
        if !check(&context, shutdown.as_mut()).await? {
            return Ok(InboxReport { stats: context.shared.counters.snapshot(), drained: true });
        }
        let now = Instant::now();
        let engine = Self {
            link: Link::Down(now),
            link_failures: 0,
            was_connected: false,
            partitions: Partitions::default(),
            revoking: None,
            lanes: Lanes::new(&context.config),
            positions: PositionsRoom::new(now),
            sequences: context.config.sequence_keys.map(Sequences::new),
            running: FuturesUnordered::new(),
            held: HeldRoom::new(now),
            retention: RetentionRoom::new(now),
            stopping: None,
            reported: InboxStats::default(),
            context,
            source,
        };
        engine.run(shutdown).await
    }

    async fn run(mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Result<InboxReport, InboxError> {
        loop {
            if self.turn() {
                return Ok(self.finish().await);
            }
            let timer = tokio::time::sleep_until(self.next_action());
            let waits = self.revoking.is_some() || self.stopping.is_some();
            let event = tokio::select! {
                biased;
                () = &mut shutdown, if self.stopping.is_none() => Event::Shutdown,
                Some(done) = self.running.next() => Event::Done(done),
                event = self.held.event() => Event::Held(event),
                written = self.positions.written() => Event::Positions(written),
                purge = self.retention.event() => Event::Purged(purge),
                event = self.link.event(waits) => Event::Link(event),
                () = timer => Event::Timer,
            };
            if let Err(error) = self.handle(event) {
                self.context.shared.vitals(|vitals| *vitals = Vitals::default());
                return Err(error);
            }
        }
    }

    /// Starts everything that can be started. `true`: the inbox has drained, or its time to drain is over.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        self.let_go_when_ready(now);
        if let Some(deadline) = self.stopping {
            let drained = self.running.is_empty() && self.held.is_idle();
            if now >= deadline || drained {
                return true;
            }
        } else {
            self.connect_when_due(now);
            self.begin_batches();
            self.held.start(&self.context, now);
            self.retention.start(&self.context, now);
        }
        self.positions.start(&self.context, now);
        self.observe(now);
        false
    }

    fn begin_batches(&mut self) {
        for (worker, batch) in self.lanes.begin(&self.context.config) {
            for work in &batch {
                if let Some(assignment) = self.partitions.current(&work.partition, &work.assignment) {
                    assignment.running += 1;
                }
                if has_defect!(self.context.config, AcknowledgeBeforeCommit) {
                    self.acknowledge(work);
                }
            }
            let span = tracing::debug_span!("inbox.batch", messages = batch.len());
            self.running.push(Box::pin(batches::process(self.context.clone(), worker, batch).instrument(span)));
        }
    }

    fn next_action(&self) -> Instant {
        let running = self.stopping.is_none();
        let link = match &self.link {
            Link::Down(until) => Some(*until).filter(|_| running),
            Link::Connecting(_) | Link::Up(_) => None,
        };
        let now = Instant::now();
        [
            link,
            self.held.next_action(&self.context).filter(|_| running),
            self.retention.next_action(&self.context).filter(|_| running),
            self.positions.next_action(),
            self.revoking.as_ref().map(|revoking| revoking.deadline),
            self.stopping,
            Some(now + self.context.config.polling_interval),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
        .max(now + SHORTEST_WAIT)
    }

    fn handle(&mut self, event: Event) -> Result<(), InboxError> {
        match event {
            Event::Shutdown => {
                tracing::info!(unacknowledged = self.partitions.unacknowledged(), "draining");
                self.stopping = Some(Instant::now() + self.context.config.shutdown_timeout);
                self.lanes.clear();
            }
            Event::Done(done) => self.on_done(done),
            Event::Held(event) => self.held.on_event(&self.context, event),
            Event::Positions(Ok(())) => {}
            Event::Positions(Err(error)) => self.context.shared.database_failed("remembering positions failed", &error),
            Event::Purged(purge) => self.retention.on_event(&self.context, purge),
            Event::Link(event) => self.on_link(event)?,
            Event::Timer => {}
        }
        Ok(())
    }

    fn on_done(&mut self, done: Done) {
        let messages = done.committed.len() + done.dropped.len();
        self.lanes.finished(done.worker, messages, done.in_one, &self.context.config);
        if done.put_aside {
            self.held.wake();
        }
        for work in done.committed.iter().chain(&done.dropped) {
            if let Some(assignment) = self.partitions.current(&work.partition, &work.assignment) {
                assignment.running -= 1;
            }
        }
        for work in &done.committed {
            self.note_sequence(work);
            self.acknowledge(work);
        }
        self.regulate();
    }

    /// Its effects, or the message itself, are committed. Of a partition that was taken away nothing is acknowledged.
    fn acknowledge(&mut self, work: &Work) {
        let over_gaps = has_defect!(self.context.config, AcknowledgeOverGaps);
        let acknowledging = self.source.acknowledging();
        let Some(assignment) = self.partitions.current(&work.partition, &work.assignment) else { return };
        let position = assignment.done(work.position, acknowledging, over_gaps);
        if let (Some(position), Some(subscription)) = (position, self.link.subscription()) {
            subscription.acknowledge(&work.partition, position);
        }
    }

    /// Publishes gauges, counters and vital signs.
    fn observe(&mut self, now: Instant) {
        let counters = &self.context.shared.counters;
        set(&counters.unacknowledged, self.partitions.unacknowledged() as u64);
        set(&counters.waiting_bytes, self.lanes.waiting_bytes as u64);
        set(&counters.partitions, self.partitions.map.len() as u64);
        counters.publish(&mut self.reported);
        self.context.shared.vitals(|vitals| vitals.last_turn = Some(now));
    }

    /// Acknowledges, leaves, and reports.
    async fn finish(mut self) -> InboxReport {
        let drained = self.running.is_empty() && self.held.is_idle();
        if !drained {
            tracing::warn!("the time to drain is over, what is being processed rolls back and comes again");
        }
        drop(std::mem::take(&mut self.running));
        if let Link::Up(subscription) = self.link {
            match tokio::time::timeout(CLOSE_TIMEOUT, subscription.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "the last acknowledgements are lost"),
                Err(_) => tracing::warn!("the broker did not answer, the last acknowledgements may be lost"),
            }
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.positions.finish(&self.context)).await;
        let shared = &self.context.shared;
        shared.counters.publish(&mut self.reported);
        shared.vitals(|vitals| *vitals = Vitals::default());
        InboxReport { stats: shared.counters.snapshot(), drained }
    }
}

/// Waits for a database that can be used; `false` when the shutdown came first.
async fn check<S: InboxStorage>(
    context: &Context<S>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, InboxError> {
    let mut attempt = 0;
    loop {
        let error = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(false),
            checked = context.limited("checking the database", context.storage.check()) => match checked {
                Ok(_) => return Ok(true),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(InboxError::Storage(error)),
            },
        };
        attempt += 1;
        context.shared.vitals(|vitals| vitals.last_turn = Some(Instant::now()));
        context.shared.database_failed("the database cannot be used yet", &error);
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(false),
            () = context.pause(attempt) => {}
        }
    }
}
