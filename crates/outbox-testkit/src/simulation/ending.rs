use tokio::time::Instant;

use super::world::{State, World};
use super::{Summary, ViolationKind};

impl World {
    /// When the faults end.
    pub(super) fn rough_until(&self) -> Instant {
        self.started() + self.scenario.rough
    }

    pub(super) fn summary(&self) -> Summary {
        let state = self.lock();
        let records = state.ledger.records();
        let count = |holds: &dyn Fn(&super::ledger::Record) -> bool| {
            records.iter().filter(|record| holds(record)).count() as u64
        };
        Summary {
            committed: count(&|record| record.committed_at.is_some()),
            published: count(&|record| record.published > 0),
            duplicates: state.ledger.duplicates,
            dead: count(&|record| record.dead),
            parked: state.database.rows().count() as u64,
            faults: state.ledger.fault_windows(),
            relays: state.relays_started as u64,
            virtual_ms: self.at_ms(),
        }
    }
}

impl State {
    /// What still has to be delivered; `None` when only messages of parked keys are left.
    pub(super) fn waiting(&self) -> Option<String> {
        let waits = |row: &&super::database::Row| !row.message.lane().is_some_and(|lane| self.database.is_parked(lane));
        let mut rows = self.database.rows().filter(waits);
        let first = rows.next()?;
        let label = self.ledger.find(first.message.id).map(|record| record.label()).unwrap_or_default();
        Some(format!("{} messages wait, the first is {label}", rows.count() + 1))
    }

    /// What can only be checked when everything is over.
    pub(super) fn check_the_end(&mut self) {
        let pending: std::collections::BTreeSet<_> = self.database.rows().map(|row| row.message.id).collect();
        let lost = self.ledger.records().iter().find(|record| {
            record.committed_at.is_some() && record.published == 0 && !record.dead && !pending.contains(&record.id)
        });
        if let Some(label) = lost.map(|record| record.label()) {
            self.ledger.violated(ViolationKind::Lost, format!("{label} is in no table and was never published"));
        }
    }
}
