use outbox_core::ports::{Burial, DeadReason, FailureMark, Outgoing, Position};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Ledger, Nature};
use crate::simulation::ViolationKind;
use crate::simulation::database::{Database, Key};

impl Ledger {
    /// A relay passes a message to its session.
    pub(in crate::simulation) fn handed(&mut self, relay: usize, outgoing: &Outgoing, database: &Database) {
        let now = Instant::now();
        let message = &outgoing.message;
        let beliefs = self.relays.entry(relay).or_default();
        let owned = beliefs.leases.get(&message.shard).is_some_and(|&until| now <= until);
        // what was on its way to the session at the very moment of the reply was in flight
        let since = outgoing.lane.and_then(|lane| beliefs.parked.get(&(message.shard, lane)));
        let parked = since.is_some_and(|&since| since < now);
        if let Some(record) = self.find_mut(message.id) {
            record.first_handed.get_or_insert(now);
            let label = record.label();
            if !owned {
                self.violated(ViolationKind::PastLease, format!("relay {relay} hands over {label} with no lease left"));
            } else if parked && outgoing.lane.is_some_and(|lane| database.is_parked(lane)) {
                self.violated(ViolationKind::Parked, format!("relay {relay} hands over {label}, whose key is parked"));
            }
        }
    }

    /// The broker takes a message into its log.
    pub(in crate::simulation) fn published(&mut self, id: Uuid) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let record = &mut self.records[index];
        record.published += 1;
        let label = record.label();
        if record.committed_at.is_none() {
            self.violated(ViolationKind::Ghost, format!("{label} was published and its transaction did not commit"));
        } else if record.published == 1 {
            self.check_order(index);
        } else {
            self.duplicates += 1;
            self.check_duplicate(index);
        }
    }

    /// Whether the broker refuses a message once more, and then counts it.
    pub(in crate::simulation) fn refuse(&mut self, id: Uuid) -> bool {
        let Some(record) = self.find_mut(id) else { return false };
        let Nature::RefusedTimes(times) = record.nature else { return false };
        let refuses = record.refusals < times;
        record.refusals += u32::from(refuses);
        record.retries += u32::from(refuses);
        refuses
    }

    /// Whether the broker returns a message once more, and then counts it.
    pub(in crate::simulation) fn gives_back(&mut self, id: Uuid) -> bool {
        let Some(record) = self.find_mut(id) else { return false };
        let Nature::ReturnedTimes(times) = record.nature else { return false };
        let returns = record.returns < times;
        record.returns += u32::from(returns);
        returns
    }

    /// A message was refused for good.
    pub(in crate::simulation) fn rejected(&mut self, id: Uuid) {
        if let Some(record) = self.find_mut(id) {
            record.rejected = true;
        }
    }

    fn check_order(&mut self, index: usize) {
        let later = &self.records[index];
        let Some(key) = &later.key else { return };
        let earlier = self.by_key[key].iter().map(|&index| &self.records[index]).find(|earlier| {
            let precedes = earlier.committed_at.is_some_and(|committed| committed < later.appended_at);
            precedes && earlier.published == 0 && !earlier.out_of_order && !earlier.discarded
        });
        if let Some(earlier) = earlier {
            let state = if earlier.dead { "a dead letter that parks its key" } else { "pending" };
            let what = format!("{} was published before {}, which is {state}", later.label(), earlier.label());
            self.violated(ViolationKind::Order, what);
        }
    }

    fn check_duplicate(&mut self, index: usize) {
        let record = &self.records[index];
        let handed = record.first_handed.unwrap_or_else(Instant::now);
        let excused = self.faults.last.is_some_and(|last| last + self.faults.aftermath >= handed);
        let label = record.label();
        if !excused {
            self.violated(ViolationKind::Duplicate, format!("{label} was published again without a fault"));
        } else if !self.faults.unbounded && self.duplicates > self.faults.windows * self.faults.window {
            let (windows, window) = (self.faults.windows, self.faults.window);
            let what = format!("{} duplicates with {windows} faults and a window of {window}", self.duplicates);
            self.violated(ViolationKind::Duplicate, what);
        }
    }

    /// Rows were removed as delivered.
    pub(in crate::simulation) fn settled(&mut self, removed: &[Position]) {
        for position in removed {
            let lost = self.find(position.id).filter(|record| record.published == 0).map(|record| record.label());
            if let Some(label) = lost {
                self.violated(ViolationKind::Lost, format!("{label} was removed and never published"));
            }
        }
    }

    /// A fenced write took effect.
    pub(in crate::simulation) fn fenced_write(&mut self, relay: usize, owned: bool, position: &Position) {
        if !owned {
            let label = self.find(position.id).map(|record| record.label()).unwrap_or_default();
            self.violated(ViolationKind::Unfenced, format!("relay {relay} marked {label} without owning its shard"));
        }
    }

    pub(in crate::simulation) fn marked(&mut self, mark: &FailureMark) {
        let Some(record) = self.find(mark.position.id) else { return };
        if mark.attempts > record.retries {
            let what = format!("{} has {} attempts and was refused {}×", record.label(), mark.attempts, record.retries);
            self.violated(ViolationKind::Burned, what);
        }
    }

    pub(in crate::simulation) fn buried(&mut self, burial: &Burial, max_attempts: u32) {
        let Some(record) = self.find_mut(burial.position.id) else { return };
        record.dead = true;
        if !burial.park_key {
            record.out_of_order = true;
        }
        let deserved = match burial.reason {
            DeadReason::AttemptsExhausted => record.retries >= max_attempts,
            DeadReason::Rejected => record.rejected,
            DeadReason::TooLarge => record.too_large,
            DeadReason::Undecodable => record.nature == Nature::Undecodable,
            _ => false,
        };
        if !deserved {
            let (label, reason) = (record.label(), burial.reason.as_str());
            self.violated(
                ViolationKind::Burned,
                format!("{label} became a dead letter ({reason}) and did not earn it"),
            );
        }
    }

    pub(in crate::simulation) fn replayed(&mut self, id: Uuid) {
        self.fault(1);
        if let Some(record) = self.find_mut(id) {
            record.dead = false;
            record.retries = 0;
        }
    }

    pub(in crate::simulation) fn discarded(&mut self, id: Uuid) {
        if let Some(record) = self.find_mut(id) {
            record.discarded = true;
        }
    }

    /// A key may go on: the dead letters that parked it are passed by their followers.
    pub(in crate::simulation) fn unparked(&mut self, key: &Key) {
        for &index in self.by_key.get(key).into_iter().flatten() {
            let record = &mut self.records[index];
            record.out_of_order |= record.dead;
        }
    }
}
