use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $metric:literal,)*) => {
        /// What a relay did since its start, and how much it holds. A copy; see [`RelayHandle::stats`](super::RelayHandle::stats).
        ///
        /// The same numbers go to the `metrics` facade under the names in each field's documentation, and with them the
        /// histograms `outbox_batch_messages` (messages a read brought), `outbox_read_seconds`,
        /// `outbox_publish_seconds` (from the hand-over to a confirm, sampled once a batch of confirms) and
        /// `outbox_settle_seconds`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct RelayStats {
            $($(#[$doc])* #[doc = concat!("\n\nMetric: `", $metric, "`.")] pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> RelayStats {
                RelayStats { $($name: self.$name.load(Relaxed),)* }
            }

            /// Passes on what changed since `last` to the `metrics` facade.
            pub(super) fn publish(&self, last: &mut RelayStats) {
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
    /// Messages taken from the storage, repeated ones included.
    read: counter "outbox_read_total",
    /// Messages that the broker confirmed.
    published: counter "outbox_published_total",
    /// Messages removed after their confirmation.
    settled: counter "outbox_settled_total",
    /// Failed attempts that will be repeated.
    retried: counter "outbox_retried_total",
    /// Messages that became dead letters.
    dead: counter "outbox_dead_total",
    /// Messages that came back unsent because an earlier one of their key failed.
    not_sent: counter "outbox_not_sent_total",
    /// Messages that must be sent alone after an error that named no single message.
    quarantined: counter "outbox_quarantined_total",
    /// Sessions opened with the broker.
    sessions: counter "outbox_sessions_total",
    /// Sessions lost.
    lost_sessions: counter "outbox_lost_sessions_total",
    /// Reads of the storage.
    reads: counter "outbox_reads_total",
    /// Messages that only the full sweep found: 0 as long as the storage reads in a safe order.
    swept: counter "outbox_swept_total",
    /// Shards lost to another relay or to time.
    lost_leases: counter "outbox_lost_leases_total",
    /// Messages read and not yet settled.
    in_flight: gauge "outbox_in_flight",
    /// Bytes of payload read and not yet confirmed.
    in_flight_bytes: gauge "outbox_in_flight_bytes",
    /// Shards that this relay owns.
    owned_shards: gauge "outbox_owned_shards",
    /// Routes that are paused.
    paused_routes: gauge "outbox_paused_routes",
    /// Pending messages by the storage's last (bounded) count.
    pending: gauge "outbox_pending",
    /// Age of the oldest pending message, in milliseconds.
    oldest_pending_ms: gauge "outbox_oldest_pending_ms",
}

pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

pub(super) fn set(gauge: &AtomicU64, n: usize) {
    gauge.store(n as u64, Relaxed);
}

/// Records how long a call took, in seconds. Once a call, never once a message.
pub(super) fn time(histogram: &'static str, took: Duration) {
    metrics::histogram!(histogram).record(took.as_secs_f64());
}

/// Records the size of a batch.
#[allow(clippy::cast_precision_loss)]
pub(super) fn size(histogram: &'static str, messages: usize) {
    metrics::histogram!(histogram).record(messages as f64);
}
