use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Connection;
use outbox_core::inbox::{Assigned, Incoming, Partition, SourceError, SourceErrorKind, SourceEvent, Subscription};

use super::acknowledging::Acknowledgements;
use super::fault::lost;
use super::incoming::incoming;
use super::line::Line;
use crate::wire::Wire;

/// Messages that one event brings at most.
const BATCH: usize = 500;

/// Bytes of messages after which an event brings no more of them.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long the broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Consumers of some queues on a connection of their own.
///
/// Its fields are dropped in their order. The wire is cut first: lapin cancels a consumer that is dropped, and the next one would then have
/// what comes after the messages that this one has not acknowledged.
pub(super) struct AmqpSubscription {
    _wire: Wire,
    connection: Arc<Connection>,
    lines: Vec<Line>,
    acknowledgements: Acknowledgements,
    /// The line that is asked first.
    turn: usize,
    /// What is told next.
    fault: Option<SourceError>,
    is_over: bool,
    timeout: Duration,
}

impl AmqpSubscription {
    pub(super) fn new(wire: Wire, connection: Arc<Connection>, lines: Vec<Line>, timeout: Duration) -> Self {
        let channels = lines.iter().map(|line| (line.partition.stream.clone(), line.channel.clone())).collect();
        let acknowledgements = Acknowledgements::start(channels);
        Self { _wire: wire, connection, lines, acknowledgements, turn: 0, fault: None, is_over: false, timeout }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<SourceEvent, SourceError>> {
        if self.is_over {
            return Poll::Ready(Err(over()));
        }
        if self.fault.is_none()
            && let Some(event) = self.poll_assigned(context).or_else(|| self.poll_delivered(context))
        {
            return Poll::Ready(Ok(event));
        }
        if self.fault.is_none() && self.poll_acknowledgements(context).is_pending() {
            return Poll::Pending;
        }
        self.is_over = true;
        Poll::Ready(Err(self.fault.take().unwrap_or_else(over)))
    }

    fn poll_assigned(&mut self, context: &mut Context<'_>) -> Option<SourceEvent> {
        let mut assigned = Vec::new();
        for line in &mut self.lines {
            match line.poll_assigned(context) {
                Ok(true) => assigned.push(Assigned { partition: line.partition.clone(), start: None }),
                Ok(false) => {}
                Err(fault) => drop(self.fault.get_or_insert(fault)),
            }
        }
        (!assigned.is_empty()).then_some(SourceEvent::Assigned(assigned))
    }

    fn poll_delivered(&mut self, context: &mut Context<'_>) -> Option<SourceEvent> {
        let (mut batch, mut bytes): (Vec<Incoming>, usize) = (Vec::new(), 0);
        let count = self.lines.len();
        for index in (self.turn..count).chain(0..self.turn) {
            let (line, start) = (&mut self.lines[index], batch.len());
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                match line.poll_delivery(context) {
                    Ok(Some(delivery)) => {
                        let message = incoming(line.partition.clone(), delivery);
                        bytes += message.size_bytes();
                        batch.push(message);
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        self.fault.get_or_insert(fault);
                        break;
                    }
                }
            }
            self.acknowledgements.delivered(index, batch[start..].iter().map(|message| message.position));
        }
        self.turn = (self.turn + 1) % count.max(1);
        (!batch.is_empty()).then_some(SourceEvent::Delivered(batch))
    }

    /// Ready when no more acknowledgements can be written, with the fault: paused queues are not looked at otherwise.
    fn poll_acknowledgements(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(ended) = pin!(self.acknowledgements.end()).poll(context) else { return Poll::Pending };
        // what the broker said about a channel comes by its consumer
        let told = self.lines.iter_mut().find_map(|line| line.poll_end(context).err());
        self.fault = told.or(ended.err());
        Poll::Ready(())
    }

    fn index_of(&self, partition: &Partition) -> Option<usize> {
        self.lines.iter().position(|line| line.is_assigned && line.partition == *partition)
    }

    /// Closes each channel, with its consumer. A consumer that is cancelled before would let the next one have what comes after the messages that go back
    /// to the queue with the channel.
    async fn leave(&mut self) -> Result<(), SourceError> {
        self.acknowledgements.finish().await?;
        for line in &self.lines {
            let closed = line.channel.close(200, "OK".into()).await;
            closed.map_err(|error| lost(&line.partition.stream, &error))?;
        }
        let _ = tokio::time::timeout(GOODBYE, self.connection.close(200, "OK".into())).await;
        Ok(())
    }
}

#[async_trait]
impl Subscription for AmqpSubscription {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        poll_fn(|context| self.poll_event(context)).await
    }

    fn acknowledge(&mut self, partition: &Partition, position: i64) {
        if let Some(index) = self.index_of(partition) {
            self.acknowledgements.note(index, position);
        }
    }

    fn pause(&mut self, partition: &Partition) {
        if let Some(index) = self.index_of(partition) {
            self.lines[index].is_paused = true;
        }
    }

    fn resume(&mut self, partition: &Partition) {
        if let Some(index) = self.index_of(partition) {
            self.lines[index].is_paused = false;
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(), SourceError> {
        if self.is_over {
            return Err(over());
        }
        let timeout = self.timeout;
        let left = tokio::time::timeout(timeout, self.leave()).await;
        left.unwrap_or_else(|_| {
            let message = format!(
                "the broker did not take the last acknowledgements within {} ms: their messages come again",
                timeout.as_millis()
            );
            Err(SourceError::new(SourceErrorKind::Unavailable, message))
        })
    }
}

fn over() -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, "the amqp subscription is over: subscribe again")
}
