//! What the ports of one storage tell each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use outbox_core::order::Horizon;
use outbox_core::ports::ShardId;
use tokio::sync::broadcast;

/// Marks that a reader may be behind; past it the reader looks at everything that waits.
const WAKES: usize = 1024;

/// A message that was marked to be tried again: (shard, `retry_at` in microseconds since 2000-01-01, `seq`).
pub(super) type Wake = (ShardId, i64, i64);

/// Shared by the readers and the settler of one storage.
#[derive(Debug)]
pub(super) struct Shared {
    order: Mutex<Order>,
    wakes: broadcast::Sender<Wake>,
    parked: AtomicU64,
}

#[derive(Debug, Default)]
struct Order {
    last_value: i64,
    horizon: Option<Horizon>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { order: Mutex::default(), wakes: broadcast::Sender::new(WAKES), parked: AtomicU64::new(0) }
    }

    /// A read returned this last value of the sequence. The latest stands, not the highest: a sequence may be set back.
    pub(super) fn read_returned(&self, last_value: i64) {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).last_value = last_value;
    }

    /// The last value known before a statement that takes a transaction id is sent.
    pub(super) fn last_value(&self) -> i64 {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).last_value
    }

    /// `next_xid` was given out after `last_value` was known. A horizon over the same rows stays as it is: the older one has fewer
    /// transactions to wait for, the removals of other relays among them.
    pub(super) fn advance(&self, last_value: i64, next_xid: i64) {
        let horizon = Horizon { last_seq: last_value, next_xid: next_xid.unsigned_abs() };
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.horizon.is_none_or(|old| horizon.next_xid > old.next_xid && horizon.last_seq != old.last_seq) {
            order.horizon = Some(horizon);
        }
    }

    /// A new reader's first horizon: stands whatever was known, because the server may be another one than before.
    pub(super) fn restart(&self, last_value: i64, next_xid: i64) {
        let horizon = Horizon { last_seq: last_value, next_xid: next_xid.unsigned_abs() };
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Order { last_value, horizon: Some(horizon) };
    }

    pub(super) fn horizon(&self) -> Option<Horizon> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).horizon
    }

    pub(super) fn key_was_parked(&self) {
        self.parked.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with every key that the settler parks.
    pub(super) fn parked_version(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    pub(super) fn will_wake(&self, wake: Wake) {
        // Nobody listens while no reader lives; the next one starts at the bottom.
        let _ = self.wakes.send(wake);
    }

    pub(super) fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_over_the_same_rows_keeps_its_transaction_id() {
        let shared = Shared::new();
        shared.restart(10, 100);
        shared.advance(10, 200);
        assert_eq!(shared.horizon(), Some(Horizon { last_seq: 10, next_xid: 100 }));
        shared.advance(11, 300);
        shared.advance(12, 250); // taken before, told later
        assert_eq!(shared.horizon(), Some(Horizon { last_seq: 11, next_xid: 300 }));
        shared.advance(5, 400); // the sequence was set back
        assert_eq!(shared.horizon(), Some(Horizon { last_seq: 5, next_xid: 400 }));
    }
}
