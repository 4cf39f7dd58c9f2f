//! What the source tells.

use futures_util::future::BoxFuture;
use outbox_core::inbox::{
    Acknowledging, Assigned, InboxStorage, Incoming, Partition, RememberedPosition, SourceError, SourceErrorKind,
    SourceEvent, Subscription,
};
use outbox_core::ports::StorageError;
use tokio::time::Instant;

use super::run::Engine;
use super::work::{Work, read};
use crate::InboxError;
use crate::handle::describe;
use crate::stats::add;

/// The way to the broker.
pub(super) enum Link {
    Down(Instant),
    Connecting(BoxFuture<'static, Connected>),
    Up(Box<dyn Subscription>),
}

/// A subscription, with the positions that were remembered before it began.
pub(super) enum Connected {
    Up(Box<dyn Subscription>, Vec<RememberedPosition>),
    Refused(SourceError),
    NoPositions(StorageError),
}

pub(super) enum LinkEvent {
    Connected(Connected),
    Told(Result<SourceEvent, SourceError>),
}

/// Partitions that go when the source is asked again.
pub(super) struct Revoking {
    pub(super) partitions: Vec<Partition>,
    pub(super) deadline: Instant,
}

impl Link {
    /// With `wait`, the source is not asked.
    pub(super) async fn event(&mut self, wait: bool) -> LinkEvent {
        match self {
            Self::Connecting(connecting) => LinkEvent::Connected(connecting.await),
            Self::Up(subscription) if !wait => LinkEvent::Told(subscription.next().await),
            Self::Down(_) | Self::Up(_) => std::future::pending().await,
        }
    }

    pub(super) fn subscription(&mut self) -> Option<&mut Box<dyn Subscription>> {
        match self {
            Self::Up(subscription) => Some(subscription),
            Self::Down(_) | Self::Connecting(_) => None,
        }
    }
}

impl<S: InboxStorage> Engine<S> {
    pub(super) fn connect_when_due(&mut self, now: Instant) {
        if matches!(self.link, Link::Down(until) if now >= until) {
            let (source, context) = (self.source.clone(), self.context.clone());
            self.link = Link::Connecting(Box::pin(async move {
                let positions = match source.acknowledging() {
                    Acknowledging::Individual => Ok(Vec::new()),
                    Acknowledging::Cumulative => {
                        let positions = context.storage.memory().positions(&context.consumer);
                        context.limited("reading the remembered positions", positions).await
                    }
                };
                match positions {
                    Err(error) => Connected::NoPositions(error),
                    Ok(positions) => match source.subscribe(&context.consumer).await {
                        Ok(subscription) => Connected::Up(subscription, positions),
                        Err(error) => Connected::Refused(error),
                    },
                }
            }));
        }
    }

    pub(super) fn on_link(&mut self, event: LinkEvent) -> Result<(), InboxError> {
        match event {
            LinkEvent::Connected(Connected::Up(subscription, positions)) => {
                self.positions.subscribed(positions);
                self.link = Link::Up(subscription);
                self.link_failures = 0;
                self.was_connected = true;
                self.context.shared.vitals(|vitals| vitals.source = None);
            }
            LinkEvent::Connected(Connected::Refused(error))
                if !self.was_connected && error.kind() == SourceErrorKind::Refused =>
            {
                return Err(InboxError::Source(error));
            }
            LinkEvent::Connected(Connected::NoPositions(error)) => {
                self.context.shared.database_failed("reading the remembered positions failed", &error);
                self.link_failures = self.link_failures.saturating_add(1);
                let wait = self.context.delay(&self.context.config.reconnect, self.link_failures);
                self.link = Link::Down(Instant::now() + wait);
            }
            LinkEvent::Connected(Connected::Refused(error)) | LinkEvent::Told(Err(error)) => self.lose_link(&error),
            LinkEvent::Told(Ok(event)) => return self.on_told(event),
        }
        Ok(())
    }

    fn lose_link(&mut self, error: &SourceError) {
        tracing::warn!(error = %error, "the source is lost");
        self.link_failures = self.link_failures.saturating_add(1);
        let wait = self.context.delay(&self.context.config.reconnect, self.link_failures);
        self.link = Link::Down(Instant::now() + wait);
        self.context.shared.vitals(|vitals| vitals.source = Some(describe(error)));
        let lost = self.partitions.forget_all();
        self.revoking = None;
        self.after_a_loss(lost);
    }

    fn on_told(&mut self, event: SourceEvent) -> Result<(), InboxError> {
        match event {
            SourceEvent::Assigned(assigned) => return self.on_assigned(assigned),
            SourceEvent::Delivered(messages) => {
                add(&self.context.shared.counters.received, messages.len());
                for message in messages {
                    self.on_delivered(message)?;
                }
                self.regulate();
            }
            SourceEvent::Acknowledged(positions) => self.positions.acknowledged(positions),
            SourceEvent::Revoking(partitions) => {
                // what has not begun is the next owner's
                for partition in &partitions {
                    if let Some(assignment) = self.partitions.map.get(partition) {
                        assignment.id.end();
                    }
                }
                self.lanes.forget_gone();
                let deadline = Instant::now() + self.context.config.revoke_timeout;
                self.revoking = Some(Revoking { partitions, deadline });
            }
            SourceEvent::Lost(partitions) => {
                let lost = self.partitions.forget(&partitions);
                self.after_a_loss(lost);
            }
        }
        Ok(())
    }

    fn on_assigned(&mut self, assigned: Vec<Assigned>) -> Result<(), InboxError> {
        for Assigned { partition, start } in assigned {
            tracing::debug!(partition = %partition, start, "assigned");
            let consumed = self.positions.of(&partition);
            match (start, consumed) {
                (Some(start), Some(remembered)) if start <= remembered => {
                    return Err(InboxError::WentBack { partition, start, remembered });
                }
                (Some(_), _) => self.partitions.assign(partition, None),
                (None, consumed) => self.partitions.assign(partition, consumed),
            }
        }
        Ok(())
    }

    fn on_delivered(&mut self, incoming: Incoming) -> Result<(), InboxError> {
        let Some(assignment) = self.partitions.map.get_mut(&incoming.partition) else { return Ok(()) };
        let (partition, position) = (incoming.partition.clone(), incoming.position);
        if let Some(remembered) = assignment.consumed.take().filter(|consumed| position <= *consumed) {
            return Err(InboxError::WentBack { partition, start: position, remembered });
        }
        assignment.delivered(position);
        let (assignment, size_bytes) = (assignment.id.clone(), incoming.size_bytes());
        let message = read(&self.context, incoming);
        let place = if self.sequences.is_some() { message.place() } else { None };
        self.lanes.push(Work { partition, position, assignment, message, size_bytes, place, standing: None });
        Ok(())
    }

    pub(super) fn after_a_loss(&mut self, lost: usize) {
        add(&self.context.shared.counters.lost_partitions, lost);
        self.lanes.forget_gone();
    }

    /// Lets go of partitions that are to be revoked, when their transactions have ended or their time is over.
    pub(super) fn let_go_when_ready(&mut self, now: Instant) {
        let Some(revoking) = &self.revoking else { return };
        if self.partitions.is_running(&revoking.partitions) && now < revoking.deadline {
            return;
        }
        let partitions = self.revoking.take().map(|revoking| revoking.partitions).unwrap_or_default();
        let lost = self.partitions.forget(&partitions);
        self.after_a_loss(lost);
    }

    /// Pauses partitions that cost too much memory, and lets them go on when they cost half of it.
    pub(super) fn regulate(&mut self) {
        let config = &self.context.config;
        let Link::Up(subscription) = &mut self.link else { return };
        let bytes = self.lanes.waiting_bytes;
        for (partition, assignment) in &mut self.partitions.map {
            let over = assignment.len() >= config.max_unacknowledged || bytes >= config.max_waiting_bytes;
            let under = assignment.len() <= config.max_unacknowledged / 2 && bytes <= config.max_waiting_bytes / 2;
            if over && !assignment.is_paused {
                assignment.is_paused = true;
                subscription.pause(partition);
            } else if under && assignment.is_paused {
                assignment.is_paused = false;
                subscription.resume(partition);
            }
        }
    }
}
