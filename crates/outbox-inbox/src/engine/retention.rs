use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use outbox_core::inbox::InboxStorage;
use outbox_core::ports::StorageError;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Context;
use super::held::optional;
use crate::stats::add;

/// Pieces of one purge: a backlog of old identities is removed over several, so that it cannot take the database for itself.
const PIECES: usize = 50;

/// Forgets old identities, as long as the database's clock can be believed.
pub(super) struct RetentionRoom {
    purging: Option<BoxFuture<'static, Purge>>,
    next: Instant,
    /// A moment that both clocks agreed about.
    agreed: Option<(Instant, OffsetDateTime)>,
}

pub(super) struct Purge {
    seen: Option<(Instant, OffsetDateTime)>,
    result: Result<usize, Refused>,
}

enum Refused {
    Clock(String),
    Storage(StorageError),
}

impl RetentionRoom {
    pub(super) fn new(now: Instant) -> Self {
        Self { purging: None, next: now, agreed: None }
    }

    pub(super) fn start<S: InboxStorage>(&mut self, context: &Arc<Context<S>>, now: Instant) {
        let Some(retention) = context.config.retention else { return };
        if self.purging.is_none() && now >= self.next {
            self.next = now + context.config.purge_interval;
            self.purging = Some(Box::pin(purge(context.clone(), retention, self.agreed)));
        }
    }

    pub(super) async fn event(&mut self) -> Purge {
        optional(&mut self.purging).await
    }

    pub(super) fn on_event<S: InboxStorage>(&mut self, context: &Context<S>, purge: Purge) {
        self.agreed = purge.seen.or(self.agreed);
        let reason = match purge.result {
            Ok(_) => None,
            Err(Refused::Clock(reason)) => {
                tracing::warn!(reason, "nothing is purged");
                Some(reason)
            }
            Err(Refused::Storage(error)) => {
                context.shared.database_failed("purging old identities failed", &error);
                return;
            }
        };
        context.shared.vitals(|vitals| vitals.purge = reason.map(Into::into));
    }

    pub(super) fn next_action<S: InboxStorage>(&self, context: &Context<S>) -> Option<Instant> {
        (self.purging.is_none() && context.config.retention.is_some()).then_some(self.next)
    }
}

async fn purge<S: InboxStorage>(
    context: Arc<Context<S>>,
    retention: Duration,
    agreed: Option<(Instant, OffsetDateTime)>,
) -> Purge {
    let memory = context.storage.memory();
    let asked = Instant::now();
    let now = match context.limited("reading the clock", memory.now()).await {
        Ok(now) => now,
        Err(error) => return Purge { seen: None, result: Err(Refused::Storage(error)) },
    };
    // the first time there is nothing to compare with but this machine's own clock
    let expected = agreed.map_or_else(OffsetDateTime::now_utc, |(at, time)| time + asked.duration_since(at));
    let off = (now - expected).abs();
    if off > context.config.clock_tolerance {
        let tolerance = context.config.clock_tolerance.as_secs();
        let reason = format!(
            "the database's clock is {} s from where it should be, clock_tolerance is {tolerance} s: set the clock, or restart the inbox once it is right",
            off.whole_seconds()
        );
        return Purge { seen: None, result: Err(Refused::Clock(reason)) };
    }
    let horizon = now - retention;
    let mut removed = 0;
    for _ in 0..PIECES {
        let piece = memory.purge(&context.consumer, horizon, context.config.purge_batch);
        match context.limited("purging old identities", piece).await {
            Ok(count) => {
                removed += count;
                add(&context.shared.counters.purged, count);
                if count < context.config.purge_batch {
                    break;
                }
            }
            Err(error) => return Purge { seen: Some((asked, now)), result: Err(Refused::Storage(error)) },
        }
    }
    Purge { seen: Some((asked, now)), result: Ok(removed) }
}
