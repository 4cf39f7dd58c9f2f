use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::inbox::{Partition, SourceError, SourceErrorKind, SourceEvent, Subscription};
use tokio::sync::oneshot;

use super::mailbox::{Leaving, Mailbox};

/// A member of the group. The consumer itself lives on a thread of its own.
pub(super) struct KafkaSubscription {
    mailbox: Arc<Mailbox>,
}

impl KafkaSubscription {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        self.mailbox.next().await
    }

    fn acknowledge(&mut self, partition: &Partition, position: i64) {
        self.mailbox.acknowledge(partition, position);
    }

    fn pause(&mut self, partition: &Partition) {
        self.mailbox.regulate(partition, true);
    }

    fn resume(&mut self, partition: &Partition) {
        self.mailbox.regulate(partition, false);
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let (left, leaving) = oneshot::channel();
        self.mailbox.leave(Leaving::Closing(left))?;
        leaving.await.unwrap_or_else(|_| {
            let message = "the kafka consumer ended before it committed the last acknowledgements";
            Err(SourceError::new(SourceErrorKind::Unavailable, message))
        })
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        // refused when the subscription is over, or is closing already
        let _ = self.mailbox.leave(Leaving::Dropped);
    }
}
