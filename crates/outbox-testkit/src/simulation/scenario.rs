use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::ports::LaneOrdering;
use outbox_core::relay::{Backoff, DeadLetterPolicy, RelayConfig};

use super::Defect;
use super::dice::Dice;

/// What a seed makes of a run.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) defect: Option<Defect>,
    pub(super) order: OrderRule,
    pub(super) shards: u16,
    pub(super) relays: usize,
    pub(super) lanes: LaneOrdering,
    pub(super) topics: Vec<String>,
    pub(super) partitions: u32,
    /// Some messages of a key go to another topic than the others.
    pub(super) two_routes: bool,
    /// Writers tell a relay that they committed.
    pub(super) nudges: bool,
    pub(super) writing: Writing,
    /// How long faults happen; writers are done by then, give or take a transaction.
    pub(super) rough: Duration,
    /// One of so many calls of the storage meets a fault; 0: none.
    pub(super) storage_fault_every: u64,
    /// One of so many batches that the broker answers meets a fault; 0: none.
    pub(super) broker_fault_every: u64,
    /// How many other faults are spread over the rough time.
    pub(super) faults: u64,
    /// How many times an operator acts.
    pub(super) operator_actions: u64,
    pub(super) relay: RelayConfig,
}

/// How the database shows what runs, and so which rule the storage reads by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderRule {
    /// By snapshots, as PostgreSQL.
    Snapshots,
    /// To dirty reads, as MySQL and MariaDB.
    DirtyReads,
}

impl OrderRule {
    fn throw(seed: u64) -> Self {
        Dice::new(seed, 3).pick(&[Self::Snapshots, Self::DirtyReads])
    }
}

/// What the writers do.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    pub(super) writers: u64,
    pub(super) transactions: u64,
    pub(super) keys: u64,
    /// One of so many messages is refused in some way; 0: none.
    pub(super) refused_every: u64,
    pub(super) scheduled_every: u64,
    pub(super) rollback_every: u64,
    /// One of so many transactions takes no row lock; 0: none.
    pub(super) unlocked_every: u64,
    pub(super) long_transaction: bool,
    /// The longest wait between two transactions of a writer, in milliseconds.
    pub(super) think_ms: u64,
    /// The longest time that a transaction stays open after its last append, in milliseconds.
    pub(super) commit_delay_ms: u64,
}

impl Scenario {
    pub(super) fn of_seed(seed: u64, defect: Option<Defect>) -> Self {
        let dice = &mut Dice::new(seed, 1);
        let quiet = dice.once_in(6);
        let topics: Vec<String> = ["order", "invoice", "audit"].map(str::to_owned).into();
        let topics = topics[..dice.below(3) + 1].to_vec();
        let rough = dice.millis(2_000, 12_000);
        let writing = Writing::throw(dice, rough);
        Self {
            seed,
            defect,
            order: defect.and_then(Defect::of_rule).unwrap_or_else(|| OrderRule::throw(seed)),
            shards: dice.pick(&[1, 2, 3, 4, 8]),
            relays: dice.pick(&[1, 2, 2, 3, 4]),
            lanes: if dice.once_in(5) { LaneOrdering::OneInFlight } else { LaneOrdering::Pipelined },
            partitions: dice.pick(&[1, 2, 3]),
            two_routes: dice.once_in(4),
            nudges: dice.once_in(3),
            writing,
            rough,
            storage_fault_every: if quiet { 0 } else { dice.pick(&[0, 15, 40, 120]) },
            broker_fault_every: if quiet { 0 } else { dice.pick(&[0, 10, 40]) },
            faults: if quiet { 0 } else { dice.between(0, 14) },
            operator_actions: dice.pick(&[0, 0, 4, 12]),
            relay: relay_config(dice, &topics, seed, defect),
            topics,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.storage_fault_every == 0 && self.broker_fault_every == 0 && self.faults == 0
    }
}

/// How long a row may take into the index before readers of a watch list rely on having seen it, in milliseconds.
pub(super) const WATCH_MARGIN_MS: u64 = 100;

/// The event type of messages that go to a topic of their own, named after their aggregate type.
pub(super) const ELSEWHERE: &str = "elsewhere";

impl Writing {
    fn throw(dice: &mut Dice, rough: Duration) -> Self {
        let writers = dice.between(2, 9);
        let messages = dice.between(15, 90);
        let transactions = (messages / writers).max(2);
        let spread_out = u64::try_from(rough.as_millis()).unwrap_or(10_000) * 2 / transactions;
        // some seeds write in a burst, so that transactions of one key follow each other within a read
        let think_ms = if dice.once_in(3) { dice.between(1, 40) } else { spread_out };
        Self {
            writers,
            transactions,
            keys: dice.pick(&[1, 2, 3, 8, 20]),
            refused_every: dice.pick(&[0, 4, 10, 30]),
            scheduled_every: dice.pick(&[0, 0, 8]),
            rollback_every: dice.pick(&[0, 5, 10]),
            unlocked_every: dice.pick(&[0, 0, 4]),
            long_transaction: dice.once_in(4),
            think_ms: think_ms.clamp(2, 4_000),
            commit_delay_ms: dice.pick(&[1, 30, 200, 1_500]),
        }
    }
}

fn relay_config(dice: &mut Dice, topics: &[String], seed: u64, defect: Option<Defect>) -> RelayConfig {
    let policy = |dice: &mut Dice| dice.pick(&[DeadLetterPolicy::Continue, DeadLetterPolicy::ParkKey]);
    let by_route: BTreeMap<String, DeadLetterPolicy> = topics
        .iter()
        .filter(|_| dice.once_in(2))
        .cloned()
        .collect::<Vec<_>>()
        .into_iter()
        .map(|t| (t, policy(dice)))
        .collect();
    RelayConfig {
        name: "simulated".to_owned(),
        polling_interval: dice.millis(20, 800),
        batch_size: dice.pick(&[1, 3, 8, 64]),
        batch_bytes: dice.pick(&[1024, 1 << 20]),
        max_in_flight: dice.pick(&[2, 6, 16, 64]),
        max_in_flight_bytes: 2 << 20,
        max_message_bytes: MAX_MESSAGE_BYTES,
        max_attempts: u32::try_from(dice.between(1, 4)).unwrap_or(1),
        retry: Backoff { initial: dice.millis(1, 150), max: Duration::from_secs(1), factor: 2.0, jitter: 0.2 },
        reconnect: Backoff { initial: dice.millis(5, 100), max: Duration::from_millis(500), factor: 2.0, jitter: 0.2 },
        lease_duration: dice.millis(600, 4_000),
        sweep_interval: dice.millis(50, 1_500),
        shutdown_timeout: dice.millis(500, 8_000),
        dead_letters: policy(dice),
        dead_letters_by_route: by_route,
        defect: defect.and_then(Defect::of_engine),
        jitter_seed: Some(seed),
        ..RelayConfig::default()
    }
}

/// A larger payload is refused by the reader.
pub(super) const MAX_MESSAGE_BYTES: usize = 1_024;
