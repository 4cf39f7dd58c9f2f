//! Parking keys within a transaction.

use std::collections::BTreeMap;

use diesel::sql_types::{Binary, Text};
use outbox_core::inbox::{Aside, OrderingKey, ParkedBy};
use outbox_core::ports::StorageError;

use super::MysqlInboxTransaction;
use super::json::{KEYS, keys};
use crate::inbox::InboxTables;
use crate::inbox::shared::parks;
use crate::sql::{Sql, bind};

const WHAT: &str = "park keys";

pub(super) struct Statements {
    park: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { park: tables.render(&PARK.replace("{KEYS}", KEYS)) }
    }
}

/// In the order of the keys. Each row is there and locked afterwards, whoever parked the key.
const PARK: &str = "INSERT INTO {{parked_keys}} (consumer, ordering_key, reason) SELECT ?, unhex(v.ordering_key), v.word \
    FROM {KEYS} ORDER BY v.n ON DUPLICATE KEY UPDATE reason = \
    if(v.word = 'dead_letter' AND {{parked_keys}}.reason = 'held', 'dead_letter', {{parked_keys}}.reason)";

/// Parks the keys of these messages, and locks them so that nobody unparks one over a message that only this transaction sees.
pub(super) async fn park(transaction: &mut MysqlInboxTransaction, messages: &[Aside]) -> Result<(), StorageError> {
    let mut wanted: BTreeMap<&OrderingKey, ParkedBy> = BTreeMap::new();
    for aside in messages {
        if let (Some(key), Some(by)) = (&aside.key, parks(&aside.fate)) {
            let known = wanted.entry(key).or_insert(by);
            *known = by.max(*known);
        }
    }
    // a key that is locked is parked, and only a dead letter has something to add
    let missing =
        |(key, by): &(&&OrderingKey, &ParkedBy)| **by == ParkedBy::DeadLetter || !transaction.locked.contains(**key);
    let missing: Vec<_> = wanted.iter().filter(missing).map(|(key, by)| (*key, by.as_str())).collect();
    if !missing.is_empty() {
        let json = keys(missing.iter().copied());
        let binds = (bind::<Binary, _>(transaction.consumer.as_str().as_bytes()), bind::<Text, _>(json));
        let park = Sql::<_>::new(&transaction.statements.parking.park, binds);
        transaction.session.execute(WHAT, park).await?;
        transaction.locked.extend(missing.into_iter().map(|(key, _)| key.clone()));
    }
    transaction.expected.parked.extend(wanted.into_keys().cloned());
    Ok(())
}
