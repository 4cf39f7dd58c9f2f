use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use lapin::{BasicProperties, Channel};
use outbox_core::ports::{RouteName, Ticket};
use uuid::Uuid;

use crate::confirms::Confirms;
use crate::destination::Address;
use crate::refusal::Refusal;

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
        Self { state: LineState::Closed, confirms: Confirms::default(), waiting: VecDeque::new(), is_isolated }
    }

    /// The next message that may go, with the channel to send it through.
    pub(crate) fn next(&mut self) -> Option<(Channel, Parcel)> {
        let LineState::Open(channel) = &self.state else { return None };
        if self.is_isolated && !self.confirms.is_empty() {
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
