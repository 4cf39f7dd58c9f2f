//! Parking keys within a transaction.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::{Array, Binary, Integer, Text};
use outbox_core::inbox::{Aside, OrderingKey, ParkedBy};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::PostgresInboxTransaction;
use crate::inbox::InboxTables;
use crate::inbox::shared::parks;
use crate::sql::{Sql, bind};

const WHAT: &str = "park keys";

/// How often a key may be unparked by others between our insert and our lock.
const ROUNDS: usize = 20;

pub(super) struct Statements {
    insert: String,
    lock: String,
    strengthen: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { insert: tables.render(INSERT), lock: tables.render(LOCK), strengthen: tables.render(STRENGTHEN) }
    }
}

const INSERT: &str = "INSERT INTO {{parked_keys}} (consumer, ordering_key, reason) SELECT $1, k.ordering_key, k.reason \
    FROM unnest($2::bytea[], $3::text[]) WITH ORDINALITY AS k(ordering_key, reason, n) ORDER BY k.n \
    ON CONFLICT DO NOTHING RETURNING 1";

const LOCK: &str = "SELECT p.ordering_key FROM {{parked_keys}} AS p WHERE p.consumer = $1 AND p.ordering_key = ANY ($2) \
    ORDER BY p.ordering_key FOR SHARE";

const STRENGTHEN: &str = "UPDATE {{parked_keys}} SET reason = 'dead_letter' \
    WHERE consumer = $1 AND ordering_key = ANY ($2) AND reason = 'held' RETURNING 1";

/// Parks the keys of these messages, and locks them so that nobody unparks one over a message that only this transaction sees.
pub(super) async fn park(transaction: &mut PostgresInboxTransaction, messages: &[Aside]) -> Result<(), StorageError> {
    let mut wanted: BTreeMap<&OrderingKey, ParkedBy> = BTreeMap::new();
    for aside in messages {
        if let (Some(key), Some(by)) = (&aside.key, parks(&aside.fate)) {
            let known = wanted.entry(key).or_insert(by);
            *known = by.max(*known);
        }
    }
    let mut missing: BTreeMap<_, _> =
        wanted.iter().filter(|(key, _)| !transaction.locked.contains(**key)).map(|(key, by)| (*key, *by)).collect();
    let mut rounds = 0;
    while !missing.is_empty() {
        if rounds == ROUNDS {
            let message = format!("cannot {WHAT}: others unparked them again and again");
            return Err(StorageError::new(StorageErrorKind::Conflict, message));
        }
        rounds += 1;
        insert(transaction, &missing).await?;
        let locked = lock(transaction, missing.keys().map(|key| key.as_bytes()).collect()).await?;
        missing.retain(|key, _| !locked.contains(*key));
        transaction.locked.extend(locked);
    }
    let by_dead_letters = wanted.iter().filter(|(_, by)| **by == ParkedBy::DeadLetter);
    let by_dead_letters: Vec<&[u8]> = by_dead_letters.map(|(key, _)| key.as_bytes()).collect();
    if !by_dead_letters.is_empty() {
        let binds = (bind::<Text, _>(transaction.consumer.as_str()), bind::<Array<Binary>, _>(by_dead_letters));
        let strengthen = Sql::<_, Integer>::new(&transaction.statements.parking.strengthen, binds);
        let _: Vec<i32> = transaction.session.load(WHAT, strengthen).await?;
    }
    transaction.expected.parked.extend(wanted.into_keys().cloned());
    Ok(())
}

async fn insert(
    transaction: &mut PostgresInboxTransaction,
    keys: &BTreeMap<&OrderingKey, ParkedBy>,
) -> Result<(), StorageError> {
    let (keys, reasons): (Vec<_>, Vec<_>) = keys.iter().map(|(key, by)| (key.as_bytes(), by.as_str())).unzip();
    let consumer = bind::<Text, _>(transaction.consumer.as_str());
    let binds = (consumer, bind::<Array<Binary>, _>(keys), bind::<Array<Text>, _>(reasons));
    let insert = Sql::<_, Integer>::new(&transaction.statements.parking.insert, binds);
    let _: Vec<i32> = transaction.session.load(WHAT, insert).await?;
    Ok(())
}

async fn lock(
    transaction: &mut PostgresInboxTransaction,
    keys: Vec<&[u8]>,
) -> Result<BTreeSet<OrderingKey>, StorageError> {
    let binds = (bind::<Text, _>(transaction.consumer.as_str()), bind::<Array<Binary>, _>(keys));
    let lock = Sql::<_, Binary>::new(&transaction.statements.parking.lock, binds);
    let rows: Vec<Vec<u8>> = transaction.session.load(WHAT, lock).await?;
    Ok(rows.into_iter().map(OrderingKey::from_stored).collect())
}
