//! Which running transactions cannot have written below the horizon.
//!
//! `nextval` locks its sequence until the transaction ends, so a transaction with an id and without that lock has taken no `seq`, and
//! what it takes later is above the last value that was known before. Relays' removals are such transactions, and those of
//! everything else in the database: watching them would read ranges again for nothing.
//!
//! The list is made *before* the read. In the moment between its commit and the release of its last lock a transaction looks idle here; by
//! the time of the read's snapshot it has ended, so that it is not in the running list that this one is compared with.

use std::collections::BTreeSet;

use diesel::sql_types::Text;
use outbox_core::order::{Horizon, Snapshot};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::READ;
use super::sql::ReadStatements;
use crate::postgres::pool::Pool;
use crate::sql::Sql;

/// A transaction holds its own id's lock from the moment that it has one. Prepared transactions have no process; their locks change hands
/// one after the other while they are prepared, so while one of them holds the sequence nothing is said.
pub(super) const IDLE: &str = "WITH held AS MATERIALIZED (SELECT l.transactionid, l.virtualtransaction, l.pid, \
    coalesce(l.relation = '{{seq}}'::regclass, false) AS of_seq FROM pg_locks AS l \
    WHERE (l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted) \
    OR (l.locktype = 'relation' AND l.relation = '{{seq}}'::regclass)) \
    SELECT coalesce(string_agg(h.transactionid::text, ','), '') FROM held AS h \
    WHERE NOT h.of_seq AND h.pid IS NOT NULL AND NOT EXISTS (SELECT FROM held AS w \
    WHERE w.of_seq AND (w.pid IS NULL OR w.virtualtransaction = h.virtualtransaction))";

/// When to ask for them.
#[derive(Debug, Default)]
pub(super) struct IdleTransactions {
    /// Transactions may be running that began before the horizon.
    crowded: bool,
    refused: bool,
}

/// The lower half of each id, which is what the table of locks shows.
#[derive(Debug, Default)]
pub(super) struct Listed {
    ids: BTreeSet<u32>,
}

impl IdleTransactions {
    /// Asks, when the answer can spare something. A server that hides its locks is not asked again: then all are watched.
    pub(super) async fn list(&mut self, pool: &Pool, statements: &ReadStatements) -> Result<Listed, StorageError> {
        if !self.crowded || self.refused {
            return Ok(Listed::default());
        }
        match pool.one::<String, _, _>(READ, Sql::<_, Text>::new(&statements.idle, ())).await {
            Ok(ids) => Ok(Listed::parse(&ids)),
            Err(error) if error.kind() == StorageErrorKind::Unavailable => Err(error),
            Err(error) => {
                tracing::debug!(error = %error, "the server does not show its locks, every transaction is watched");
                self.refused = true;
                Ok(Listed::default())
            }
        }
    }

    /// The horizon is a new one: what began before it may still run.
    pub(super) fn suspect(&mut self) {
        self.crowded = true;
    }

    /// Takes what a read saw.
    pub(super) fn learn(&mut self, snapshot: &Snapshot, horizon: Option<Horizon>) {
        self.crowded = horizon.is_some_and(|horizon| snapshot.is_crowded(horizon));
    }
}

impl Listed {
    fn parse(ids: &str) -> Self {
        Self { ids: ids.split(',').filter_map(|id| id.parse().ok()).collect() }
    }

    /// Those that the snapshot saw running, with their whole ids. No two of them have the same lower half.
    pub(super) fn among(&self, snapshot: &Snapshot) -> BTreeSet<u64> {
        if self.ids.is_empty() {
            return BTreeSet::new();
        }
        let is_listed = |xid: u64| u32::try_from(xid & u64::from(u32::MAX)).is_ok_and(|low| self.ids.contains(&low));
        snapshot.running.iter().copied().filter(|&xid| is_listed(xid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_lower_half_and_only_while_they_run() {
        let epoch = 3 << 32;
        let snapshot = Snapshot { xmax: epoch + 30, running: [epoch + 7, epoch + 9].into() };
        assert_eq!(Listed::parse("7,8").among(&snapshot), [epoch + 7].into());
        assert_eq!(Listed::parse("").among(&snapshot), [].into());
    }
}
