use std::time::Duration;

use outbox_core::relay::{Backoff, DeadLetterPolicy, InvalidConfig};

/// How an inbox works. Every field has a default that is right for most; see each for its unit and reason.
#[derive(Debug, Clone)]
pub struct InboxConfig {
    /// When a message is processed. Default [`Mode::Transactional`].
    pub mode: Mode,
    /// Transactions that may be open at once: deliveries are spread over as many workers by their ordering key. Default 4; 1 to 64.
    pub workers: usize,
    /// Messages that one transaction takes at most. It adapts below: halves when a transaction fails, then grows. Default 500; 1 to 10,000.
    pub batch_size: usize,
    /// Bytes of messages that one transaction takes at most; a single larger message goes alone. Default 4 MiB; at least 1 KiB.
    pub batch_bytes: usize,
    /// Messages of one partition that may be received and not yet acknowledged; at it the partition pauses. Bounds the memory that a slow
    /// message costs. Default 10,000; 1 to 1,000,000.
    pub max_unacknowledged: usize,
    /// Bytes of received messages that may wait for their transaction; at it every partition pauses. Default 64 MiB; at least `batch_bytes`.
    pub max_waiting_bytes: usize,
    /// A larger message is a dead letter `too_large`. Default 16 MiB; at least 1 KiB.
    pub max_message_bytes: usize,
    /// How long one call of a handler may take. Then it is dropped, and its connection with it. Default 30 s; 1 ms to 1 h.
    pub handler_timeout: Duration,
    /// How long one statement may take, in the database. Default 30 s; 1 ms to 1 h.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock, in the database. Default 10 s; 1 ms to 1 h.
    pub lock_timeout: Duration,
    /// How long a call of the storage may take before its connection is given up. Default 60 s; 10 ms to 1 h.
    pub storage_timeout: Duration,
    /// What becomes of a message that no handler is registered for. Default [`UnknownTypes::DeadLetter`].
    pub unknown_types: UnknownTypes,
    /// Failed attempts after which a message becomes a dead letter. A lost connection counts only when the message, alone, has lost its own for the fourth
    /// time. Default 5; 1 to 1,000.
    pub max_attempts: u32,
    /// Waits between the attempts of one message.
    pub retry: Backoff,
    /// What a dead letter means for the followers of its key. Default `Continue`.
    pub dead_letters: DeadLetterPolicy,
    /// Waits between attempts to reach a database or a broker.
    pub reconnect: Backoff,
    /// How long a worker has a held message to itself. A longer attempt is safe, and may be in vain. Default 60 s; 100 ms to 1 h.
    pub claim_lease: Duration,
    /// The longest wait between two looks for held messages that others have put aside. Default 1 s; 1 ms to 1 h.
    pub polling_interval: Duration,
    /// How far back identities of processed messages are remembered; those of held messages and dead letters stay as long as they. Default 7 days;
    /// `None`: for ever.
    pub retention: Option<Duration>,
    /// Between two purges. Default 60 s; 10 ms to 1 day.
    pub purge_interval: Duration,
    /// Identities that one statement of a purge removes. Default 1,000; 1 to 100,000.
    pub purge_batch: usize,
    /// How far clocks may be apart: a database clock that jumps by more stops the purge, and a message is taken for older than the retention
    /// by as much early. Default 10 min; 1 s to 1 day.
    pub clock_tolerance: Duration,
    /// Keys whose sequence numbers are remembered (about 50 bytes each), to tell stale, repeated and missing messages by the numbers that their producers give
    /// them. `None`: nobody looks at numbers. Default `None`; 1 to 10,000,000.
    ///
    /// Numbers are the CloudEvents attributes `sequence` and `sequencetype`, or what [`NewMessage::sequence`](outbox_core::NewMessage::sequence) set. They
    /// are compared within a key, a source, and one assignment of the partition; what was before the first message of a key is not known, so
    /// that a loss at a rebalance or a restart is not seen. A missing message is told only where the numbers have no gaps (`sequencetype` is
    /// `Integer`): those that the relay stamps have. One whose envelope cannot be read is a dead letter and counts as missing.
    /// It is a report: nothing is held back, and nothing is refused.
    pub sequence_keys: Option<usize>,
    /// How long work may go on when a partition is taken away. Default 10 s.
    pub revoke_timeout: Duration,
    /// How long a drain at shutdown may take. Default 30 s.
    pub shutdown_timeout: Duration,
    /// A deliberate defect for the simulation to catch.
    #[cfg(feature = "simulation")]
    pub defect: Option<crate::Defect>,
    /// Seed of the jitter and of claim tokens, so that a simulated run replays exactly.
    #[cfg(feature = "simulation")]
    pub seed: Option<u64>,
}

/// When a message is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// In the transaction that deduplicates it, before the broker is acknowledged.
    #[default]
    Transactional,
    /// It is stored and acknowledged first, then processed from the table. The broker never waits for handlers.
    Durable,
}

/// What becomes of a message that no handler is registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownTypes {
    /// It is acknowledged, remembered and counted.
    Skip,
    /// It becomes a dead letter `unknown_type`.
    #[default]
    DeadLetter,
    /// It fails, like a message whose handler fails: it holds its key, and is tried again.
    Fail,
}

impl Default for InboxConfig {
    fn default() -> Self {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        Self {
            mode: Mode::Transactional,
            workers: 4,
            batch_size: 500,
            batch_bytes: 4 << 20,
            max_unacknowledged: 10_000,
            max_waiting_bytes: 64 << 20,
            max_message_bytes: 16 << 20,
            handler_timeout: secs(30),
            statement_timeout: secs(30),
            lock_timeout: secs(10),
            storage_timeout: secs(60),
            unknown_types: UnknownTypes::DeadLetter,
            max_attempts: 5,
            retry: Backoff { initial: secs(1), max: secs(300), factor: 2.0, jitter: 0.2 },
            dead_letters: DeadLetterPolicy::Continue,
            reconnect: Backoff { initial: ms(100), max: secs(10), factor: 2.0, jitter: 0.2 },
            claim_lease: secs(60),
            polling_interval: secs(1),
            retention: Some(secs(7 * 86_400)),
            purge_interval: secs(60),
            purge_batch: 1_000,
            clock_tolerance: secs(600),
            sequence_keys: None,
            revoke_timeout: secs(10),
            shutdown_timeout: secs(30),
            #[cfg(feature = "simulation")]
            defect: None,
            #[cfg(feature = "simulation")]
            seed: None,
        }
    }
}

impl InboxConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first [`InvalidConfig`] found.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const HOUR: Duration = Duration::from_secs(3600);
        const DAY: Duration = Duration::from_secs(86_400);
        let ms = Duration::from_millis;
        let number = |key, value: usize, min, max, allowed| within(key, value, min, max, allowed, |v| v.to_string());
        let time =
            |key, value: Duration, min, max, allowed| within(key, value, min, max, allowed, |v| format!("{v:?}"));
        number("workers", self.workers, 1, 64, "1 to 64")?;
        number("batch_size", self.batch_size, 1, 10_000, "1 to 10000 messages")?;
        number("batch_bytes", self.batch_bytes, 1024, 1 << 30, "1 KiB to 1 GiB")?;
        number("max_unacknowledged", self.max_unacknowledged, 1, 1_000_000, "1 to 1000000 messages")?;
        number("max_waiting_bytes", self.max_waiting_bytes, self.batch_bytes, 1 << 33, "batch_bytes to 8 GiB")?;
        number("max_message_bytes", self.max_message_bytes, 1024, 1 << 30, "1 KiB to 1 GiB")?;
        number("purge_batch", self.purge_batch, 1, 100_000, "1 to 100000")?;
        number("max_attempts", self.max_attempts as usize, 1, 1_000, "1 to 1000")?;
        number("sequence_keys", self.sequence_keys.unwrap_or(1), 1, 10_000_000, "1 to 10000000 keys, or none")?;
        time("handler_timeout", self.handler_timeout, ms(1), HOUR, "1 ms to 1 h")?;
        time("statement_timeout", self.statement_timeout, ms(1), HOUR, "1 ms to 1 h")?;
        time("lock_timeout", self.lock_timeout, ms(1), HOUR, "1 ms to 1 h")?;
        time("storage_timeout", self.storage_timeout, ms(10), HOUR, "10 ms to 1 h")?;
        time("claim_lease", self.claim_lease, ms(100), HOUR, "100 ms to 1 h")?;
        time("polling_interval", self.polling_interval, ms(1), HOUR, "1 ms to 1 h")?;
        time("purge_interval", self.purge_interval, ms(10), DAY, "10 ms to 1 day")?;
        time("clock_tolerance", self.clock_tolerance, ms(1_000), DAY, "1 s to 1 day")?;
        time("revoke_timeout", self.revoke_timeout, Duration::ZERO, HOUR, "0 to 1 h")?;
        time("shutdown_timeout", self.shutdown_timeout, Duration::ZERO, HOUR, "0 to 1 h")?;
        if let Some(retention) = self.retention {
            time("retention", retention, self.clock_tolerance, DAY * 36_500, "clock_tolerance to 100 years, or none")?;
        }
        backoff(&self.retry, ["retry.initial", "retry.max", "retry.factor", "retry.jitter"])?;
        backoff(&self.reconnect, ["reconnect.initial", "reconnect.max", "reconnect.factor", "reconnect.jitter"])
    }
}

fn backoff(backoff: &Backoff, keys: [&'static str; 4]) -> Result<(), InvalidConfig> {
    const DAY: Duration = Duration::from_secs(86_400);
    within(keys[0], backoff.initial, Duration::from_millis(1), DAY, "1 ms to 24 h", |v| format!("{v:?}"))?;
    within(keys[1], backoff.max, backoff.initial, DAY, "the initial wait to 24 h", |v| format!("{v:?}"))?;
    within(keys[2], backoff.factor, 1.0, 100.0, "1 to 100", |v| v.to_string())?;
    within(keys[3], backoff.jitter, 0.0, 1.0, "0 to 1", |v| v.to_string())
}

fn within<T: PartialOrd + Copy>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
    allowed: &'static str,
    show: impl Fn(T) -> String,
) -> Result<(), InvalidConfig> {
    if value >= min && value <= max { Ok(()) } else { Err(InvalidConfig { key, value: show(value), allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_an_absurd_value_is_named() {
        assert_eq!(InboxConfig::default().validate(), Ok(()));
        let config = InboxConfig { workers: 0, ..InboxConfig::default() };
        assert_eq!(config.validate().unwrap_err().to_string(), "workers is 0: it must be 1 to 64");
    }
}
