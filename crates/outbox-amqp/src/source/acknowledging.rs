use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use outbox_core::inbox::{SourceError, SourceErrorKind};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::fault::{closed, lost};
use super::tags::{Ack, Tags};

/// How often it is looked whether the channels are open while nothing is written: nobody reads from a queue that is paused.
const LOOK: Duration = Duration::from_secs(1);

/// Writes acknowledgements, in a task of its own: noting one waits for nothing.
pub(super) struct Acknowledgements {
    noted: Arc<Noted>,
    task: JoinHandle<Result<(), SourceError>>,
}

#[derive(Default)]
struct Noted {
    state: Mutex<State>,
    /// Something was noted.
    bell: Notify,
}

#[derive(Default)]
struct State {
    /// Of each channel.
    tags: Vec<Tags>,
    is_closing: bool,
}

impl Noted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acknowledgements {
    /// Starts the task, with the channels in their order and the queue of each.
    pub(super) fn start(channels: Vec<(Arc<str>, Channel)>) -> Self {
        let noted = Arc::<Noted>::default();
        noted.state().tags.resize_with(channels.len(), Tags::default);
        let task = tokio::spawn(write(noted.clone(), channels));
        Self { noted, task }
    }

    /// Deliveries of a channel that can be acknowledged from now on.
    pub(super) fn delivered(&self, channel: usize, tags: impl Iterator<Item = i64>) {
        let mut state = self.noted.state();
        if let Some(of_channel) = state.tags.get_mut(channel) {
            tags.for_each(|tag| of_channel.delivered(tag));
        }
    }

    pub(super) fn note(&self, channel: usize, tag: i64) {
        let is_new = self.noted.state().tags.get_mut(channel).is_some_and(|tags| tags.note(tag));
        if is_new {
            self.noted.bell.notify_one();
        }
    }

    /// Waits for the end of the task: before [`finish`](Self::finish) only a channel that is closed ends it. Safe to cancel; to be called until it returns once.
    pub(super) async fn end(&mut self) -> Result<(), SourceError> {
        (&mut self.task).await.unwrap_or_else(|error| {
            let message = "the task that writes acknowledgements has ended: the inbox subscribes again";
            Err(SourceError::new(SourceErrorKind::Unavailable, message).with_source(error))
        })
    }

    /// Writes what was noted, and ends.
    pub(super) async fn finish(&mut self) -> Result<(), SourceError> {
        self.noted.state().is_closing = true;
        self.noted.bell.notify_one();
        self.end().await
    }
}

impl Drop for Acknowledgements {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(noted: Arc<Noted>, channels: Vec<(Arc<str>, Channel)>) -> Result<(), SourceError> {
    loop {
        let (acks, is_closing) = {
            let mut state = noted.state();
            let acks: Vec<Vec<Ack>> = state.tags.iter_mut().map(Tags::take).collect();
            (acks, state.is_closing)
        };
        let mut writing: FuturesUnordered<_> = acks
            .into_iter()
            .zip(&channels)
            .flat_map(|(acks, to)| acks.into_iter().map(|ack| write_one(to.clone(), ack)))
            .collect();
        if writing.is_empty() {
            if is_closing {
                return Ok(());
            }
            drop(writing);
            if tokio::time::timeout(LOOK, noted.bell.notified()).await.is_err()
                && let Some((queue, _)) = channels.iter().find(|(_, channel)| !channel.status().connected())
            {
                return Err(closed(queue));
            }
            continue;
        }
        while let Some(written) = writing.next().await {
            written?;
        }
    }
}

async fn write_one((queue, channel): (Arc<str>, Channel), ack: Ack) -> Result<(), SourceError> {
    let Ack { tag, multiple } = ack;
    let written = channel.basic_ack(tag.unsigned_abs(), BasicAckOptions { multiple }).await;
    written.map_err(|error| lost(&queue, &error))
}
