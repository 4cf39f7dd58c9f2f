mod hand_over;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outbox_core::Message;
use outbox_core::ports::{Outcome, Outgoing, Reason, RouteName, Session, Slot};
use rdkafka::producer::{Producer as _, PurgeConfig};
use rustc_hash::FxBuildHasher;

use self::hand_over::HandedOver;
use crate::deliveries::Producer;
use crate::routes::Routes;
use crate::topics::partitions_of;
use crate::transport::Shared;

/// How long `send` waits for room in the producer's queue before it tries again, and `close` before it looks again.
const RETRY: Duration = Duration::from_millis(2);

/// Messages that `send` hands over before it lets other tasks run: about 1 ms of work.
const YIELD_EVERY: usize = 512;

/// One producer, from its creation to its end.
pub(crate) struct KafkaSession {
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    batch_bytes: usize,
    routes: Arc<Routes>,
}

impl KafkaSession {
    pub(crate) fn new(shared: Arc<Shared>, producer: Arc<Producer>, batch_bytes: usize) -> Self {
        Self { shared, producer, batch_bytes, routes: Arc::default() }
    }
}

#[async_trait]
impl Session for KafkaSession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        let (shared, producer, routes) = (self.shared.clone(), self.producer.clone(), self.routes.clone());
        let (batch_bytes, route) = (self.batch_bytes, route.clone());
        Box::pin(async move {
            let timeout = shared.request_timeout;
            let (asked, topic) = (producer.clone(), route.clone());
            let partitions = tokio::task::spawn_blocking(move || partitions_of(&asked, &topic, timeout));
            let (partitions, limit) = tokio::join!(partitions, shared.limits.max_batch_bytes(&route));
            let partitions =
                partitions.map_err(|error| lost(format!("asking about topic {route} failed: {error}")))??;
            if let Some(limit) = limit.filter(|limit| *limit < batch_bytes) {
                shared.batch_bytes.fetch_min(limit, Ordering::Relaxed);
                return Err(lost(format!(
                    "topic {route} takes batches of {limit} bytes and the session makes batches of {batch_bytes}: \
                     a new session makes smaller ones"
                )));
            }
            // The broker judges the compressed size, which is not known here.
            let limit = limit.filter(|_| !shared.properties.compressed);
            routes.open(&mut producer.context().window(), &route, partitions, limit)
        })
    }

    fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        self.routes.slot(route, message)
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let mut stopped = HashSet::with_hasher(FxBuildHasher);
        for (index, outgoing) in messages.iter().enumerate() {
            if index % YIELD_EVERY == YIELD_EVERY - 1 {
                tokio::task::yield_now().await;
            }
            if outgoing.lane.is_some_and(|lane| stopped.contains(&lane)) {
                self.producer.context().report(outgoing.ticket, Outcome::NotSent);
                continue;
            }
            let refused = loop {
                match self.hand_over(outgoing) {
                    HandedOver::Taken => break None,
                    HandedOver::QueueFull => tokio::time::sleep(RETRY).await,
                    HandedOver::Refused(outcome) => break Some(outcome),
                    HandedOver::SessionEnds => return,
                }
            };
            if let Some(outcome) = refused {
                self.producer.context().report(outgoing.ticket, outcome);
                stopped.extend(outgoing.lane);
            }
        }
    }

    async fn close(self: Box<Self>) {
        // bounded by the watchdog, which ends a session that gets no reports
        while self.producer.context().is_open() && !self.producer.context().window().is_empty() {
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Drop for KafkaSession {
    fn drop(&mut self) {
        self.producer.context().end();
        // the thread of the driver waits for the rest and destroys the producer
        self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

fn lost(text: String) -> Outcome {
    Outcome::SessionLost(Reason::new(text))
}
