//! Compares the balances that the consumer made with the amounts that the writers committed.

use std::collections::HashMap;

/// An account: what the record of the committed changes comes to, or what the consumer made of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// The order's id, which is the ordering key.
    pub(super) account: i64,
    /// The sum of the amounts.
    pub(super) cents: i64,
    /// How many changes.
    pub(super) events: i64,
    /// The last version.
    pub(super) version: i64,
    /// Events that were not applied right after the version before theirs; 0 in the record.
    pub(super) missteps: i64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Books {
    /// Accounts that have committed changes.
    pub(super) accounts: u64,
    /// Accounts with another sum, another number of events, another last version, or events that were applied out of order.
    ///
    /// The versions of an account count from 1 without a gap, so that an account without missteps whose last version is right has had each
    /// event applied exactly once.
    pub(super) wrong: u64,
    /// Events in the balances.
    pub(super) applied: u64,
    /// The sum of all balances.
    pub(super) cents: i64,
    /// The sum of all committed amounts.
    pub(super) committed_cents: i64,
}

impl Books {
    /// Whether every committed event was applied exactly once.
    pub(super) fn hold(&self) -> bool {
        self.wrong == 0 && self.cents == self.committed_cents
    }
}

/// Compares the record with the balances.
pub(super) fn audit(record: &[Account], balances: &[Account]) -> Books {
    let sum = |accounts: &[Account]| accounts.iter().map(|account| account.cents).sum();
    let mut unseen: HashMap<i64, &Account> = balances.iter().map(|balance| (balance.account, balance)).collect();
    let mismatched = record.iter().filter(|account| unseen.remove(&account.account) != Some(account)).count();
    Books {
        accounts: record.len() as u64,
        wrong: (mismatched + unseen.len()) as u64,
        applied: balances.iter().map(|balance| balance.events.unsigned_abs()).sum(),
        cents: sum(balances),
        committed_cents: sum(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(account: i64, cents: i64, events: i64) -> Account {
        Account { account, cents, events, version: events, missteps: 0 }
    }

    #[test]
    fn equal_books_hold() {
        let record = [account(1, 300, 2), account(2, 50, 1)];
        let books = audit(&record, &[record[1], record[0]]);
        assert_eq!(books, Books { accounts: 2, wrong: 0, applied: 3, cents: 350, committed_cents: 350 });
        assert!(books.hold());
    }

    #[test]
    fn a_lost_or_doubled_effect_and_one_that_nobody_committed_are_wrong() {
        let record = [account(1, 300, 2), account(2, 50, 1)];
        for balances in [
            vec![account(1, 300, 2)],
            vec![account(1, 400, 3), account(2, 50, 1)],
            vec![account(1, 300, 2), account(2, 50, 1), account(3, 0, 1)],
            vec![account(1, 250, 2), account(2, 100, 1)],
        ] {
            assert!(!audit(&record, &balances).hold(), "{balances:?}");
        }
    }

    #[test]
    fn a_lost_effect_beside_a_doubled_one_of_the_same_amount_is_wrong() {
        let doubled = Account { missteps: 2, ..account(1, 300, 3) };
        assert!(!audit(&[account(1, 300, 3)], &[doubled]).hold());
    }
}
