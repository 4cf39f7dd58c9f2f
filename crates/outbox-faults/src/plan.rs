use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::options::{BrokerKind, DatabaseKind, RunOptions, Unroutable};

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
    /// An orderly restart of the database.
    DatabaseRestart,
    /// The database ends without a checkpoint and recovers from its log.
    DatabaseCrash,
    /// An orderly restart of the broker.
    BrokerRestart,
    /// `kill -9` of the broker, then a start.
    BrokerCrash,
    /// The memory alarm of RabbitMQ, which blocks every publisher, is set and cleared.
    Alarm,
    /// The binding of the strays is taken away and put back.
    Unroutable,
    /// The queue gets a small limit and a slow consumer: it refuses what is over it.
    Overflow,
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
    pub(crate) fn text(self, database: DatabaseKind, broker: BrokerKind) -> String {
        match self {
            Self::Kill => "kill -9 relay".to_owned(),
            Self::Pause => "SIGSTOP relay".to_owned(),
            Self::DatabaseRestart => format!("{} restart", database.name()),
            Self::DatabaseCrash => format!("{} crash", database.name()),
            Self::BrokerRestart => format!("{} restart", broker.name()),
            Self::BrokerCrash => format!("{} kill -9", broker.name()),
            Self::Alarm => "memory alarm".to_owned(),
            Self::Unroutable => "1 % unroutable".to_owned(),
            Self::Overflow => "queue overflows".to_owned(),
        }
    }

    /// Relays that may have to send their window again. Without a lost connection there are no duplicates.
    pub(crate) fn affected_relays(self) -> usize {
        match self {
            Self::Kill | Self::Pause => 1,
            Self::DatabaseRestart | Self::DatabaseCrash | Self::BrokerRestart | Self::BrokerCrash => 2,
            Self::Alarm | Self::Unroutable | Self::Overflow => 0,
        }
    }
}

/// The faults of a run in their order: one of each basic kind in a short run.
pub(crate) fn plan(options: &RunOptions, relays: usize, seed: u64) -> Vec<Step> {
    let (events, mut rng) = (options.events, StdRng::seed_from_u64(seed));
    let mut faults = vec![Fault::Kill, Fault::Pause, Fault::DatabaseRestart, Fault::BrokerRestart];
    if options.broker == BrokerKind::Rabbitmq {
        faults.extend([Fault::Alarm, Fault::Overflow]);
        // Under the other policy strays are unroutable from the first event to the last.
        faults.extend((options.unroutable == Unroutable::Pause).then_some(Fault::Unroutable));
    }
    if events >= FULL_RUN_EVENTS {
        faults.extend([Fault::DatabaseCrash, Fault::BrokerCrash]);
        let more = (events / EVENTS_PER_RELAY_FAULT).min(MAX_RELAY_FAULTS).saturating_sub(2);
        faults.extend((0..more).map(|n| if n % 2 == 0 { Fault::Kill } else { Fault::Pause }));
    }
    faults.shuffle(&mut rng);
    faults.into_iter().map(|fault| Step { fault, victim: rng.random_range(0..relays) }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(events: u64, broker: BrokerKind) -> RunOptions {
        let (lease, database) = (Duration::from_secs(3), DatabaseKind::Postgres);
        RunOptions { events, seed: None, lease, database, broker, unroutable: Unroutable::Pause }
    }

    fn faults(options: &RunOptions) -> Vec<Fault> {
        plan(options, 2, 7).iter().map(|step| step.fault).collect()
    }

    #[test]
    fn a_short_run_has_one_fault_of_each_basic_kind() {
        let faults = faults(&options(10_000, BrokerKind::Kafka));
        assert_eq!(faults.len(), 4);
        for fault in [Fault::Kill, Fault::Pause, Fault::DatabaseRestart, Fault::BrokerRestart] {
            assert!(faults.contains(&fault), "{fault:?}");
        }
    }

    #[test]
    fn rabbitmq_has_faults_of_its_own() {
        let mut options = options(5_000, BrokerKind::Rabbitmq);
        let with_pause = faults(&options);
        for fault in [Fault::Alarm, Fault::Overflow, Fault::Unroutable] {
            assert!(with_pause.contains(&fault), "{fault:?}");
        }
        options.unroutable = Unroutable::Reject;
        assert!(!faults(&options).contains(&Fault::Unroutable));
    }

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        let options = options(100_000, BrokerKind::Kafka);
        assert_eq!(plan(&options, 2, 7), plan(&options, 2, 7));
        assert_eq!(plan(&options, 2, 7).len(), 16);
    }
}
