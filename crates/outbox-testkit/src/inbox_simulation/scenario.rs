use std::time::Duration;

use outbox_core::inbox::Acknowledging;
use outbox_core::relay::{Backoff, DeadLetterPolicy};
use outbox_inbox::{InboxConfig, Mode};

use super::Defect;
use crate::simulation::dice::Dice;

/// What a seed makes of a run.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) defect: Option<Defect>,
    pub(super) acknowledging: Acknowledging,
    pub(super) partitions: i32,
    pub(super) processes: usize,
    pub(super) messages: u64,
    pub(super) keys: u64,
    /// The longest wait between two messages, in milliseconds.
    pub(super) think_ms: u64,
    /// One of so many messages fails for a while, or for ever; 0: none.
    pub(super) failing_every: u64,
    /// One of so many messages updates two shared rows in random order; 0: none.
    pub(super) deadlocking_every: u64,
    /// One of so many calls of the storage meets a fault; 0: none.
    pub(super) storage_fault_every: u64,
    /// How many other faults are spread over the time of publishing.
    pub(super) faults: u64,
    /// Whether an operator parks keys and lets them go.
    pub(super) parks_keys: bool,
    pub(super) inbox: InboxConfig,
}

impl Scenario {
    pub(super) fn of_seed(seed: u64, defect: Option<Defect>) -> Self {
        let dice = &mut Dice::new(seed, 11);
        let quiet = dice.once_in(6);
        let acknowledging =
            dice.pick(&[Acknowledging::Cumulative, Acknowledging::Cumulative, Acknowledging::Individual]);
        Self {
            seed,
            defect,
            acknowledging,
            partitions: dice.pick(&[1, 2, 4]),
            processes: dice.pick(&[1, 2, 2, 3]),
            messages: dice.between(20, 120),
            keys: dice.pick(&[1, 2, 5, 12]),
            think_ms: dice.pick(&[2, 20, 100]),
            failing_every: dice.pick(&[0, 5, 12]),
            deadlocking_every: dice.pick(&[0, 3, 8]),
            storage_fault_every: if quiet { 0 } else { dice.pick(&[0, 15, 40, 120]) },
            faults: if quiet { 0 } else { dice.between(0, 16) },
            parks_keys: dice.once_in(4),
            inbox: config(dice, seed, defect),
        }
    }
}

fn config(dice: &mut Dice, seed: u64, defect: Option<Defect>) -> InboxConfig {
    let backoff = |low, high, max| Backoff {
        initial: Duration::from_millis(low),
        max: Duration::from_millis(max),
        factor: 2.0,
        jitter: high,
    };
    InboxConfig {
        mode: dice.pick(&[Mode::Transactional, Mode::Transactional, Mode::Durable]),
        workers: dice.pick(&[1, 2, 4]),
        batch_size: dice.pick(&[1, 3, 10, 100]),
        max_unacknowledged: dice.pick(&[3, 20, 1_000]),
        handler_timeout: Duration::from_secs(3),
        lock_timeout: dice.millis(300, 1_500),
        storage_timeout: dice.millis(1_000, 5_000),
        max_attempts: u32::try_from(dice.between(2, 6)).unwrap_or(2),
        dead_letters: dice.pick(&[DeadLetterPolicy::Continue, DeadLetterPolicy::Continue, DeadLetterPolicy::ParkKey]),
        sequence_keys: Some(1_000),
        retry: backoff(dice.between(1, 300), 0.2, 1_000),
        reconnect: backoff(dice.between(5, 100), 0.2, 500),
        claim_lease: dice.millis(200, 3_000),
        polling_interval: dice.millis(20, 800),
        revoke_timeout: dice.millis(0, 2_000),
        shutdown_timeout: Duration::from_secs(20),
        defect: defect.and_then(Defect::of_engine),
        seed: Some(seed),
        ..InboxConfig::default()
    }
}
