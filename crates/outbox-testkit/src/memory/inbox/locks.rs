use std::collections::{BTreeMap, BTreeSet};

use outbox_core::inbox::{Consumer, Identity, OrderingKey};

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionId(u64);

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Message(Consumer, Identity),
    Parked(Consumer, OrderingKey),
    Held(i64),
    /// A row of the handlers' own tables.
    Own(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// Row locks with the detection of deadlocks: whoever would close a circle is refused.
#[derive(Debug, Default)]
pub(super) struct Locks {
    begun: u64,
    rows: BTreeMap<Row, BTreeMap<TransactionId, Mode>>,
    waiting: BTreeMap<TransactionId, (Row, Mode)>,
}

/// Waiting for this lock would never end.
#[derive(Debug)]
pub(super) struct Deadlock;

impl Locks {
    pub(super) fn begin(&mut self) -> TransactionId {
        self.begun += 1;
        TransactionId(self.begun)
    }

    /// Takes a lock, or notes that the transaction waits for it (`false`).
    pub(super) fn try_lock(&mut self, transaction: TransactionId, row: &Row, mode: Mode) -> Result<bool, Deadlock> {
        if self.blockers(transaction, row, mode).is_empty() {
            self.waiting.remove(&transaction);
            let held = self.rows.entry(row.clone()).or_default().entry(transaction).or_insert(mode);
            if mode == Mode::Exclusive {
                *held = mode;
            }
            return Ok(true);
        }
        self.waiting.insert(transaction, (row.clone(), mode));
        if self.waits_for_itself(transaction) {
            self.waiting.remove(&transaction);
            return Err(Deadlock);
        }
        Ok(false)
    }

    pub(super) fn is_locked(&self, row: &Row) -> bool {
        self.rows.contains_key(row)
    }

    pub(super) fn unlock(&mut self, transaction: TransactionId, row: &Row) {
        if let Some(holders) = self.rows.get_mut(row) {
            holders.remove(&transaction);
            if holders.is_empty() {
                self.rows.remove(row);
            }
        }
    }

    pub(super) fn end(&mut self, transaction: TransactionId) {
        self.waiting.remove(&transaction);
        self.rows.retain(|_, holders| {
            holders.remove(&transaction);
            !holders.is_empty()
        });
    }

    fn blockers(&self, transaction: TransactionId, row: &Row, mode: Mode) -> Vec<TransactionId> {
        let conflicts = |other: Mode| mode == Mode::Exclusive || other == Mode::Exclusive;
        let holders = self.rows.get(row).into_iter().flatten();
        holders
            .filter(|(holder, held)| **holder != transaction && conflicts(**held))
            .map(|(holder, _)| *holder)
            .collect()
    }

    fn waits_for_itself(&self, transaction: TransactionId) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![transaction];
        while let Some(one) = open.pop() {
            let Some((row, mode)) = self.waiting.get(&one) else { continue };
            for blocker in self.blockers(one, row, *mode) {
                if blocker == transaction {
                    return true;
                }
                if seen.insert(blocker) {
                    open.push(blocker);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_closes_the_circle_is_refused() {
        let mut locks = Locks::default();
        let (one, other) = (locks.begin(), locks.begin());
        let (a, b) = (Row::Own("a".to_owned()), Row::Own("b".to_owned()));
        assert!(locks.try_lock(one, &a, Mode::Exclusive).unwrap());
        assert!(locks.try_lock(other, &b, Mode::Exclusive).unwrap());
        assert!(!locks.try_lock(one, &b, Mode::Shared).unwrap());
        assert!(locks.try_lock(other, &a, Mode::Exclusive).is_err());
        locks.end(other);
        assert!(locks.try_lock(one, &b, Mode::Shared).unwrap());
    }
}
