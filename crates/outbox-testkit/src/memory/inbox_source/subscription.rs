use std::pin::pin;

use async_trait::async_trait;
use outbox_core::inbox::{Consumer, Partition, SourceError, SourceErrorKind, SourceEvent, Subscription};

use super::MemorySource;
use super::broker::{MemberId, Turn};

/// A member of a group.
pub(super) struct MemorySubscription {
    source: MemorySource,
    consumer: Consumer,
    member: MemberId,
}

impl MemorySubscription {
    pub(super) fn new(source: MemorySource, consumer: Consumer, member: MemberId) -> Self {
        Self { source, consumer, member }
    }
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let source = self.source.clone();
        loop {
            let mut changed = pin!(source.shared.changed.notified());
            changed.as_mut().enable(); // what happens from here on is heard
            match source.take_turn(&self.consumer, self.member) {
                Turn::Event(event) => return Ok(event),
                Turn::Disconnected => {
                    let message = "the in-memory broker ended the connection";
                    return Err(SourceError::new(SourceErrorKind::Unavailable, message));
                }
                Turn::Nothing => changed.await,
            }
        }
    }

    fn acknowledge(&mut self, partition: &Partition, position: i64) {
        self.source.change(|broker| broker.acknowledge(&self.consumer, self.member, partition, position));
    }

    fn pause(&mut self, partition: &Partition) {
        self.source.change(|broker| broker.set_paused(&self.consumer, self.member, partition, true));
    }

    fn resume(&mut self, partition: &Partition) {
        self.source.change(|broker| broker.set_paused(&self.consumer, self.member, partition, false));
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.source.change(|broker| broker.leave(&self.consumer, self.member));
    }
}
