use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// From this many events on, a run also crashes both servers and hits the relays again and again.
const FULL_RUN_EVENTS: u64 = 50_000;
/// Events between two faults of a relay in a full run.
const EVENTS_PER_RELAY_FAULT: u64 = 8_000;
/// More would only take longer.
const MAX_RELAY_FAULTS: u64 = 24;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a relay; it is started again after its shards were taken over.
    Kill,
    /// `SIGSTOP` of a relay for longer than its lease, then `SIGCONT`.
    Pause,
    /// An orderly restart of PostgreSQL.
    PostgresRestart,
    /// PostgreSQL ends without a checkpoint and recovers from its log.
    PostgresCrash,
    /// An orderly restart of the broker.
    KafkaRestart,
    /// `kill -9` of the broker, then a start.
    KafkaCrash,
}

/// A fault and, where one relay is hit, which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    /// Index of the relay that is hit; of no meaning when a server is.
    pub(crate) victim: usize,
}

impl Fault {
    /// In words, for the report.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 relay",
            Self::Pause => "SIGSTOP relay",
            Self::PostgresRestart => "PostgreSQL restart",
            Self::PostgresCrash => "PostgreSQL crash",
            Self::KafkaRestart => "Kafka restart",
            Self::KafkaCrash => "Kafka kill -9",
        }
    }

    /// Relays that may have to send their window again.
    pub(crate) fn affected_relays(self) -> usize {
        match self {
            Self::Kill | Self::Pause => 1,
            _ => 2,
        }
    }
}

/// The faults of a run in their order: one of each basic kind in a short run.
pub(crate) fn plan(events: u64, relays: usize, seed: u64) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = vec![Fault::Kill, Fault::Pause, Fault::PostgresRestart, Fault::KafkaRestart];
    if events >= FULL_RUN_EVENTS {
        faults.extend([Fault::PostgresCrash, Fault::KafkaCrash]);
        let more = (events / EVENTS_PER_RELAY_FAULT).min(MAX_RELAY_FAULTS).saturating_sub(2);
        faults.extend((0..more).map(|n| if n % 2 == 0 { Fault::Kill } else { Fault::Pause }));
    }
    faults.shuffle(&mut rng);
    faults.into_iter().map(|fault| Step { fault, victim: rng.random_range(0..relays) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_has_one_fault_of_each_basic_kind() {
        let faults: Vec<Fault> = plan(10_000, 2, 7).iter().map(|step| step.fault).collect();
        assert_eq!(faults.len(), 4);
        for fault in [Fault::Kill, Fault::Pause, Fault::PostgresRestart, Fault::KafkaRestart] {
            assert!(faults.contains(&fault), "{fault:?}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        assert_eq!(plan(100_000, 2, 7), plan(100_000, 2, 7));
        assert_eq!(plan(100_000, 2, 7).len(), 16);
    }
}
