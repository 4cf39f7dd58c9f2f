use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::{BasicProperties, Channel};
use outbox_core::ports::{RouteName, Ticket};
use tokio::time::Instant;
use uuid::Uuid;

use crate::confirms::Confirms;
use crate::destination::Address;
use crate::refusal::Refusal;

/// A channel is not replaced before it is so old, however much is refused on it.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// A message on its way to a channel.
pub(crate) struct Parcel {
    pub(crate) label: Label,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    /// It must fail or succeed alone on its channel.
    pub(crate) is_suspect: bool,
}

/// What is kept of a message until its outcome.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) ticket: Ticket,
    pub(crate) id: Uuid,
    pub(crate) route: RouteName,
    /// Messages with the same number keep their order on the way to the broker.
    pub(crate) line: usize,
    pub(crate) address: Arc<Address>,
}

/// One channel at a time, and the messages that go through it. When the broker closes the channel, what was open on it gets its outcome and a new channel
/// serves what comes after.
pub(crate) struct Line {
    pub(crate) state: LineState,
    pub(crate) confirms: Confirms<Label>,
    /// Messages that wait for the channel.
    pub(crate) waiting: VecDeque<Parcel>,
    /// Suspects go through it, one at a time.
    pub(crate) is_isolated: bool,
    opened_at: Option<Instant>,
    /// The broker has refused a message of the channel.
    has_refused: bool,
}

#[derive(Debug)]
pub(crate) enum LineState {
    Closed,
    Opening,
    Open(Channel),
    /// The broker closed it, for a reason that may still be on its way.
    Failing(Option<Refusal>),
}

impl Line {
    pub(crate) fn new(is_isolated: bool) -> Self {
        Self {
            state: LineState::Closed,
            confirms: Confirms::default(),
            waiting: VecDeque::new(),
            is_isolated,
            opened_at: None,
            has_refused: false,
        }
    }

    /// Takes a new channel.
    pub(crate) fn open(&mut self, channel: Channel, now: Instant) {
        self.state = LineState::Open(channel);
        self.opened_at = Some(now);
        self.has_refused = false;
    }

    /// Notes that the broker refused a message of the channel (nack).
    ///
    /// Whether a quorum queue is full is remembered in each channel, and a channel is not told when the limit is taken away (RabbitMQ
    /// 3.10): it would refuse for ever what the queue has room for. A new one asks.
    pub(crate) fn refused(&mut self) {
        self.has_refused = true;
    }

    /// Takes out a channel that has refused a message, when nothing is open on it any more: a new one takes its place.
    pub(crate) fn take_worn(&mut self, now: Instant) -> Option<Channel> {
        if !self.is_worn(now) || !self.confirms.is_empty() {
            return None;
        }
        match std::mem::replace(&mut self.state, LineState::Closed) {
            LineState::Open(channel) => Some(channel),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether the channel takes no more messages, so that it can be replaced.
    fn is_worn(&self, now: Instant) -> bool {
        self.has_refused && self.opened_at.is_some_and(|at| now.duration_since(at) >= LEAST_AGE)
    }

    /// The next message that may go, with the channel to send it through.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Channel, Parcel)> {
        let LineState::Open(channel) = &self.state else { return None };
        if (self.is_isolated || self.is_worn(now)) && !self.confirms.is_empty() {
            return None;
        }
        Some((channel.clone(), self.waiting.pop_front()?))
    }

    /// Notes that the broker closed the channel. The first error with a reason says why.
    pub(crate) fn fail(&mut self, refusal: Option<Refusal>) {
        match &mut self.state {
            LineState::Failing(known @ None) => *known = refusal,
            LineState::Failing(Some(_)) => {}
            state => *state = LineState::Failing(refusal),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.confirms.is_empty()
    }
}
