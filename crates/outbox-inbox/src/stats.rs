use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $metric:literal,)*) => {
        /// What an inbox did since its start, and how much it holds. A copy; see [`InboxHandle::stats`](crate::InboxHandle::stats).
        ///
        /// The same numbers go to the `metrics` facade under the names in each field's documentation, and with them the histograms
        /// `outbox_inbox_batch_messages` and `outbox_inbox_transaction_seconds`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct InboxStats {
            $($(#[$doc])* #[doc = concat!("\n\nMetric: `", $metric, "`.")] pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> InboxStats {
                InboxStats { $($name: self.$name.load(Relaxed),)* }
            }

            /// Passes on what changed since `last` to the `metrics` facade.
            pub(crate) fn publish(&self, last: &mut InboxStats) {
                let now = self.snapshot();
                $(stats!(@emit $kind $metric, now.$name, last.$name);)*
                *last = now;
            }
        }
    };
    (@emit counter $metric:literal, $now:expr, $last:expr) => {
        if $now != $last { metrics::counter!($metric).increment($now.saturating_sub($last)); }
    };
    (@emit gauge $metric:literal, $now:expr, $last:expr) => {
        #[allow(clippy::cast_precision_loss)]
        if $now != $last { metrics::gauge!($metric).set($now as f64); }
    };
}

stats! {
    /// Messages that came from the source, repeated ones included.
    received: counter "outbox_inbox_received_total",
    /// Messages whose effects were committed.
    processed: counter "outbox_inbox_processed_total",
    /// Messages that had been processed, or are held or dead, and came again.
    duplicates: counter "outbox_inbox_duplicates_total",
    /// Messages of a type without a handler that were skipped by choice.
    skipped: counter "outbox_inbox_skipped_total",
    /// Messages that were put aside into the database, to be processed from there.
    held: counter "outbox_inbox_held_total",
    /// Failed attempts.
    failed: counter "outbox_inbox_failed_total",
    /// Messages that became dead letters.
    dead: counter "outbox_inbox_dead_total",
    /// Transactions that were rolled back and done again.
    rolled_back: counter "outbox_inbox_rolled_back_total",
    /// Transactions that were committed.
    transactions: counter "outbox_inbox_transactions_total",
    /// Times that a worker found its held messages claimed by another.
    lost_claims: counter "outbox_inbox_lost_claims_total",
    /// Identities that were purged.
    purged: counter "outbox_inbox_purged_total",
    /// Partitions that were taken away.
    lost_partitions: counter "outbox_inbox_lost_partitions_total",
    /// Messages that were new in a transaction that was rolled back, and not new when it was done again: another consumer has had them meanwhile (after a
    /// rebalance), or a handler has ended the transaction itself, and what was behind it in the batch is not applied.
    overtaken: counter "outbox_inbox_overtaken_total",
    /// Messages that are missing by their numbers when a later one of their key came; see [`InboxConfig::sequence_keys`](crate::InboxConfig::sequence_keys).
    sequence_missing: counter "outbox_inbox_sequence_missing_total",
    /// New messages with a lower number than one of their key that came before: out of order, or missing ones that came late.
    sequence_stale: counter "outbox_inbox_sequence_stale_total",
    /// New messages with the number of another message of their key: sent again under another id, or numbered twice.
    sequence_repeated: counter "outbox_inbox_sequence_repeated_total",
    /// Messages received and not yet acknowledged.
    unacknowledged: gauge "outbox_inbox_unacknowledged",
    /// Bytes of received messages that wait for their transaction.
    waiting_bytes: gauge "outbox_inbox_waiting_bytes",
    /// Partitions that this inbox has.
    partitions: gauge "outbox_inbox_partitions",
    /// Held messages by the storage's last (bounded) count.
    backlog: gauge "outbox_inbox_backlog",
    /// Parked keys by the same count.
    parked_keys: gauge "outbox_inbox_parked_keys",
    /// Dead letters by the same count.
    dead_letters: gauge "outbox_inbox_dead_letters",
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

pub(crate) fn set(gauge: &AtomicU64, n: u64) {
    gauge.store(n, Relaxed);
}
