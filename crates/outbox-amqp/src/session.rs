use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use lapin::Connection;
use outbox_core::Message;
use outbox_core::ports::{Outcome, OutcomeSink, Outgoing, Reason, RouteName, Session, Slot};
use rustc_hash::FxBuildHasher;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::Publication;
use crate::destination::Address;
use crate::driver::Driver;
use crate::exchanges::Exchanges;
use crate::line::{Label, Parcel};
use crate::publication::Limits;
use crate::routes::Routes;
use crate::transport::Shared;
use crate::wire::Wire;

/// Messages that `send` encodes before it lets other tasks run: about 1 ms of work.
const YIELD_EVERY: usize = 512;

/// How long the broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// One connection, from its creation to its end.
pub(crate) struct AmqpSession {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    exchanges: Arc<Exchanges>,
    routes: Arc<Routes>,
    limits: Limits,
    sink: OutcomeSink,
    batches: Option<mpsc::UnboundedSender<Vec<Parcel>>>,
    blocked: watch::Receiver<bool>,
    driver: JoinHandle<()>,
    wire: Wire,
}

impl AmqpSession {
    pub(crate) fn start(shared: Arc<Shared>, connection: Arc<Connection>, wire: Wire, sink: OutcomeSink) -> Self {
        let frame_bytes = usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX);
        let limits = Limits { frame_bytes, body_bytes: shared.max_message_bytes };
        let exchanges = Exchanges::new(connection.clone(), shared.topology.clone(), shared.request_timeout);
        let (batches, taken) = mpsc::unbounded_channel();
        let (blocks, blocked) = watch::channel(false);
        let driver = tokio::spawn(Driver::new(shared.clone(), connection.clone(), sink.clone(), blocks).run(taken));
        Self {
            shared,
            connection,
            exchanges: Arc::new(exchanges),
            routes: Arc::default(),
            limits,
            sink,
            batches: Some(batches),
            blocked,
            driver,
            wire,
        }
    }

    fn parcel(&self, outgoing: Outgoing) -> Result<Parcel, Outcome> {
        let Outgoing { ticket, message, route, slot, .. } = outgoing;
        let Some(address) = self.routes.address(slot) else {
            let text = format!("route {route}: it is not open in this session");
            return Err(Outcome::RoutePaused(Reason::new(text)));
        };
        let prepared = Publication::prepare(&message, &*self.shared.encoder, &self.shared.defaults, &self.limits)
            .map_err(|reason| Outcome::Reject(Reason::new(format!("route {route}: {reason}"))))?;
        let (id, line) = (message.id, slot.0 as usize);
        Ok(Parcel {
            label: Label { ticket, id, route, line, address },
            properties: prepared.properties,
            body: prepared.body,
            is_suspect: self.shared.suspects.contains(id),
        })
    }
}

#[async_trait]
impl Session for AmqpSession {
    fn open_route(&self, route: &RouteName) -> BoxFuture<'static, Result<(), Outcome>> {
        let (exchanges, routes, route) = (self.exchanges.clone(), self.routes.clone(), route.clone());
        Box::pin(async move {
            let Some(address) = Address::of(&route) else {
                let text = format!("route {route:?} is no exchange and routing key");
                return Err(Outcome::RoutePaused(Reason::new(text)));
            };
            let was_open = routes.slot(&route) != Routes::NOWHERE;
            exchanges.prepare(&route, &address, was_open).await?;
            routes.open(&route, address);
            Ok(())
        })
    }

    fn slot(&self, route: &RouteName, _: &Message) -> Slot {
        self.routes.slot(route)
    }

    async fn send(&mut self, messages: Vec<Outgoing>) {
        let mut stopped = HashSet::with_hasher(FxBuildHasher);
        let mut batch = Vec::with_capacity(messages.len());
        for (index, outgoing) in messages.into_iter().enumerate() {
            if index % YIELD_EVERY == YIELD_EVERY - 1 {
                tokio::task::yield_now().await;
            }
            let (ticket, lane) = (outgoing.ticket, outgoing.lane);
            if lane.is_some_and(|lane| stopped.contains(&lane)) {
                self.sink.report(ticket, Outcome::NotSent);
                continue;
            }
            match self.parcel(outgoing) {
                Ok(parcel) => batch.push(parcel),
                Err(outcome) => {
                    self.sink.report(ticket, outcome);
                    stopped.extend(lane);
                }
            }
        }
        // nothing is handed over while the broker blocks; an error means that the session is lost, which was reported
        if self.blocked.wait_for(|is_blocked| !is_blocked).await.is_ok()
            && let Some(batches) = &self.batches
            && !batch.is_empty()
        {
            let _ = batches.send(batch);
        }
    }

    async fn close(mut self: Box<Self>) {
        self.batches = None;
        // bounded by the driver, which ends a session that gets no confirms; it panics never
        let _ = (&mut self.driver).await;
        if self.connection.status().connected() {
            let _ = tokio::time::timeout(GOODBYE, self.connection.close(200, "OK".into())).await;
        }
    }
}

impl Drop for AmqpSession {
    fn drop(&mut self) {
        self.driver.abort();
        self.wire.cut(); // before the connection goes, which would first send what lapin holds
    }
}
