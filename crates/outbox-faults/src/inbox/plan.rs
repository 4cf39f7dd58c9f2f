use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::options::{InboxOptions, Scenario};
use crate::options::{BrokerKind, DatabaseKind};

/// From this many messages on a run hits the consumers again and again.
const FULL_RUN_MESSAGES: u64 = 50_000;
/// Messages between two faults of a consumer in a full run.
const MESSAGES_PER_FAULT: u64 = 5_000;
/// More would only take longer.
const MAX_CONSUMER_FAULTS: u64 = 24;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of a consumer; another is started at once.
    Kill,
    /// `SIGSTOP` of a consumer until others have its partitions, then `SIGCONT`. The next faults may come meanwhile.
    Pause,
    /// An orderly restart of the database.
    DatabaseRestart,
    /// An orderly restart of the broker.
    BrokerRestart,
}

impl Fault {
    /// In words, for the report.
    pub(super) fn text(self, database: DatabaseKind, broker: BrokerKind) -> String {
        match self {
            Self::Kill => "kill -9 consumer".to_owned(),
            Self::Pause => "SIGSTOP consumer".to_owned(),
            Self::DatabaseRestart => format!("{} restart", database.name()),
            Self::BrokerRestart => format!("{} restart", broker.name()),
        }
    }
}

/// The faults of a run in their order.
pub(super) fn plan(options: &InboxOptions, seed: u64) -> Vec<Fault> {
    let mut faults = vec![Fault::Kill, Fault::Pause];
    if options.scenario == Scenario::Redeliveries {
        faults.extend([Fault::DatabaseRestart, Fault::BrokerRestart]);
    }
    if options.messages >= FULL_RUN_MESSAGES {
        let more = (options.messages / MESSAGES_PER_FAULT).min(MAX_CONSUMER_FAULTS).saturating_sub(2);
        faults.extend((0..more).map(|n| if n % 2 == 0 { Fault::Kill } else { Fault::Pause }));
    }
    faults.shuffle(&mut StdRng::seed_from_u64(seed));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(scenario: Scenario, messages: u64) -> InboxOptions {
        let (database, broker) = (DatabaseKind::Postgres, BrokerKind::Kafka);
        InboxOptions { scenario, messages, seed: None, database, broker, seconds: 60, durable: false }
    }

    #[test]
    fn a_short_run_has_one_fault_of_each_kind() {
        let faults = plan(&options(Scenario::Redeliveries, 10_000), 7);
        assert_eq!(faults.len(), 4);
        for fault in [Fault::Kill, Fault::Pause, Fault::DatabaseRestart, Fault::BrokerRestart] {
            assert!(faults.contains(&fault), "{fault:?}");
        }
    }

    #[test]
    fn a_full_run_hits_the_consumers_again_and_again_and_a_seed_gives_the_same_plan() {
        let options = options(Scenario::Redeliveries, 100_000);
        let faults = plan(&options, 7);
        assert_eq!(faults, plan(&options, 7));
        assert_eq!(faults.len(), 22);
        assert!(faults.iter().filter(|fault| **fault == Fault::Pause).count() >= 10);
    }
}
