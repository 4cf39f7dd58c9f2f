use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use outbox_core::inbox::{ClaimToken, HeldBacklog, HeldMessage, InboxStorage};
use outbox_core::ports::StorageError;
use tokio::time::Instant;

use super::{Context, retrying};
use crate::stats::set;

/// The shortest wait between two looks that found nothing.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// Takes held messages that are due, and has them processed.
pub(super) struct HeldRoom {
    looking: Option<BoxFuture<'static, Look>>,
    running: FuturesUnordered<BoxFuture<'static, Result<(), StorageError>>>,
    next_look: Instant,
    failures: u32,
}

/// What a look at the queue found.
pub(super) enum Look {
    Claimed(ClaimToken, Vec<HeldMessage>),
    Nothing(HeldBacklog),
    Failed(StorageError),
}

pub(super) enum HeldEvent {
    Looked(Look),
    Processed(Result<(), StorageError>),
}

impl HeldRoom {
    pub(super) fn new(now: Instant) -> Self {
        Self { looking: None, running: FuturesUnordered::new(), next_look: now, failures: 0 }
    }

    pub(super) fn start<S: InboxStorage>(&mut self, context: &Arc<Context<S>>, now: Instant) {
        if self.looking.is_some() || self.running.len() >= context.config.workers || now < self.next_look {
            return;
        }
        let context = context.clone();
        self.looking = Some(Box::pin(async move { look(&context).await }));
    }

    pub(super) async fn event(&mut self) -> HeldEvent {
        tokio::select! {
            biased;
            Some(result) = self.running.next() => HeldEvent::Processed(result),
            look = optional(&mut self.looking) => HeldEvent::Looked(look),
        }
    }

    pub(super) fn on_event<S: InboxStorage>(&mut self, context: &Arc<Context<S>>, event: HeldEvent) {
        let now = Instant::now();
        match event {
            HeldEvent::Looked(Look::Claimed(claim, messages)) => {
                self.failures = 0;
                self.next_look = now;
                self.running.push(Box::pin(retrying::process(context.clone(), claim, messages)));
            }
            HeldEvent::Looked(Look::Nothing(backlog)) => {
                self.failures = 0;
                let wait = backlog.next_due.unwrap_or(context.config.polling_interval);
                self.next_look = now + wait.min(context.config.polling_interval).max(SHORTEST_WAIT);
                let counters = &context.shared.counters;
                set(&counters.backlog, backlog.held);
                set(&counters.parked_keys, backlog.parked_keys);
                set(&counters.dead_letters, backlog.dead_letters);
                context.shared.vitals(|vitals| vitals.dead_letters = backlog.dead_letters);
            }
            HeldEvent::Processed(Ok(())) => self.next_look = now,
            HeldEvent::Looked(Look::Failed(error)) | HeldEvent::Processed(Err(error)) => {
                self.failures = self.failures.saturating_add(1);
                context.shared.database_failed("the queue of held messages failed", &error);
                self.next_look = now + context.delay(&context.config.reconnect, self.failures);
            }
        }
    }

    /// Something was put aside.
    pub(super) fn wake(&mut self) {
        if self.failures == 0 {
            self.next_look = Instant::now();
        }
    }

    pub(super) fn next_action<S: InboxStorage>(&self, context: &Context<S>) -> Option<Instant> {
        let may_look = self.looking.is_none() && self.running.len() < context.config.workers;
        may_look.then_some(self.next_look)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.looking.is_none()
    }
}

async fn look<S: InboxStorage>(context: &Context<S>) -> Look {
    let (consumer, config) = (&context.consumer, &context.config);
    let claim = context.new_claim();
    let claimed = context.storage.held().claim(consumer, claim, config.claim_lease, config.batch_size);
    match context.limited("claiming held messages", claimed).await {
        Ok(messages) if !messages.is_empty() => Look::Claimed(claim, messages),
        Ok(_) => match context.limited("counting held messages", context.storage.held().backlog(consumer)).await {
            Ok(backlog) => Look::Nothing(backlog),
            Err(error) => Look::Failed(error),
        },
        Err(error) => Look::Failed(error),
    }
}

/// Waits for an optional call, and removes it when it has returned.
pub(super) async fn optional<T>(call: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(running) = call else { return std::future::pending().await };
    let value = running.await;
    *call = None;
    value
}
