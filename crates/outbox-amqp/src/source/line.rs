use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::{Channel, Consumer};
use outbox_core::inbox::{Partition, SourceError};

use super::fault::{cancelled, lost};

/// One queue: its consumer on a channel of its own.
pub(super) struct Line {
    pub(super) partition: Partition,
    pub(super) channel: Channel,
    consumer: Consumer,
    /// Its first message has come.
    pub(super) is_assigned: bool,
    pub(super) is_paused: bool,
    /// The first message, which comes after the news that the queue is assigned.
    first: Option<Delivery>,
}

impl Line {
    pub(super) fn new(partition: Partition, channel: Channel, consumer: Consumer) -> Self {
        Self { partition, channel, consumer, is_assigned: false, is_paused: false, first: None }
    }

    /// Whether its first message has just come.
    pub(super) fn poll_assigned(&mut self, context: &mut Context<'_>) -> Result<bool, SourceError> {
        if self.is_assigned {
            return Ok(false);
        }
        self.first = self.poll_consumer(context)?;
        self.is_assigned = self.first.is_some();
        Ok(self.is_assigned)
    }

    /// The next message, unless there is none yet or the queue is paused.
    pub(super) fn poll_delivery(&mut self, context: &mut Context<'_>) -> Result<Option<Delivery>, SourceError> {
        if self.is_paused || !self.is_assigned {
            return Ok(None);
        }
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.poll_consumer(context),
        }
    }

    /// Why nothing more comes, whatever is before that.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Result<(), SourceError> {
        while self.poll_consumer(context)?.is_some() {}
        Ok(())
    }

    fn poll_consumer(&mut self, context: &mut Context<'_>) -> Result<Option<Delivery>, SourceError> {
        match self.consumer.poll_next_unpin(context) {
            Poll::Pending => Ok(None),
            Poll::Ready(Some(Ok(delivery))) => Ok(Some(delivery)),
            Poll::Ready(Some(Err(error))) => Err(lost(&self.partition.stream, &error)),
            Poll::Ready(None) => Err(cancelled(&self.partition.stream)),
        }
    }
}
