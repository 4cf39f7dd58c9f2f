//! What the ports of one storage tell each other.

use outbox_core::ports::ShardId;
use tokio::sync::broadcast;

/// Marks that a reader may be behind; past it the reader looks at everything that waits.
const WAKES: usize = 1024;

/// A message that was marked to be tried again: (shard, `retry_at` in microseconds since 1970-01-01, `seq`).
pub(super) type Wake = (ShardId, i64, i64);

/// Shared by the readers and the settler of one storage.
#[derive(Debug)]
pub(super) struct Shared {
    wakes: broadcast::Sender<Wake>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { wakes: broadcast::Sender::new(WAKES) }
    }

    pub(super) fn will_wake(&self, wake: Wake) {
        // Nobody listens while no reader lives; the next one starts at the bottom.
        let _ = self.wakes.send(wake);
    }

    pub(super) fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }
}
