//! Who was here before.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use outbox_core::inbox::{Admission, Candidate, Identity, OrderingKey, Standing};
use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;
use uuid::Uuid;

use super::MysqlInboxTransaction;
use super::json::{IDENTITIES, KEYS, beside_locks, identities, keys};
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, standing, unix_time};
use crate::sql::{Sql, bind};

const WHAT: &str = "admit messages";

/// How often the insert is tried again when three or more wait for one row and the one that has it rolls back: InnoDB then gives all of
/// those that wait a lock on the gap, and lets one of them go on by ending the others.
const ROUNDS: usize = 20;

pub(super) struct Statements {
    insert: String,
    standings: String,
    parked: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            insert: tables.render(&INSERT.replace("{IDENTITIES}", IDENTITIES)),
            standings: tables.render(&STANDINGS.replace("{IDENTITIES}", IDENTITIES)),
            parked: tables.render(&PARKED.replace("{KEYS}", &beside_locks(KEYS))),
        }
    }
}

/// In the order of the identities: two transactions with the same messages meet at the first one. A row that is there keeps its token, and
/// is locked: nobody's later status of it can be missed.
const INSERT: &str = "INSERT INTO {{messages}} (consumer, source, id, token) SELECT ?, unhex(v.source), unhex(v.id), ? \
    FROM {IDENTITIES} ORDER BY v.n ON DUPLICATE KEY UPDATE token = token";

/// How each of the identities stands, by its place, and whether it is this transaction's; and a row with the horizon.
const STANDINGS: &str = "SELECT cast(v.n AS signed), m.status, cast(m.token <=> ? AS signed), NULL FROM {IDENTITIES} \
    STRAIGHT_JOIN {{messages}} AS m FORCE INDEX (PRIMARY) \
    ON m.consumer = ? AND m.source = unhex(v.source) AND m.id = unhex(v.id) \
    UNION ALL SELECT 0, NULL, 0, timestampdiff(MICROSECOND, '1970-01-01', h.horizon) FROM {{horizons}} AS h WHERE h.consumer = ?";

type StandingColumns = (BigInt, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>);
type StandingRow = (i64, Option<String>, Option<i64>, Option<i64>);

/// Locked in share mode, in the order of the keys.
const PARKED: &str = "SELECT p.ordering_key FROM {KEYS} STRAIGHT_JOIN {{parked_keys}} AS p FORCE INDEX (PRIMARY) \
    ON p.consumer = ? AND p.ordering_key = unhex(v.ordering_key) LOCK IN SHARE MODE";

pub(super) async fn admit(
    transaction: &mut MysqlInboxTransaction,
    candidates: &[Candidate],
) -> Result<Admission, StorageError> {
    let known: BTreeSet<&Identity> = candidates.iter().map(|candidate| &candidate.identity).collect();
    let known: Vec<&Identity> = known.into_iter().collect();
    let json = identities(known.iter().map(|identity| (*identity, Status::Processed.as_str())));
    let token = Uuid::now_v7();
    if !known.is_empty() {
        insert(transaction, token, &json).await?;
    }
    let (mut stood, horizon) = standings(transaction, token, &json, &known).await?;
    let keys: BTreeSet<&OrderingKey> = candidates.iter().filter_map(|candidate| candidate.key.as_ref()).collect();
    let parked = if keys.is_empty() { BTreeSet::new() } else { parked(transaction, &keys).await? };
    transaction.locked.extend(parked.iter().cloned());

    let is_new = |(_, standing): &(&&Identity, &Standing)| **standing == Standing::New;
    let inserted = stood.iter().filter(is_new).map(|(identity, _)| ((*identity).clone(), Status::Processed));
    transaction.expected.messages.extend(inserted);
    // of two equal candidates the second stands as processed
    let standing = |candidate: &Candidate| stood.remove(&candidate.identity).unwrap_or(Standing::Processed);
    Ok(Admission { standings: candidates.iter().map(standing).collect(), parked, horizon })
}

async fn insert(transaction: &mut MysqlInboxTransaction, token: Uuid, json: &str) -> Result<(), StorageError> {
    for _ in 0..ROUNDS {
        let consumer = bind::<Binary, _>(transaction.consumer.as_str().as_bytes());
        let binds = (consumer, bind::<Binary, _>(token.as_bytes().as_slice()), bind::<Text, _>(json));
        let insert = Sql::<_>::new(&transaction.statements.admitting.insert, binds);
        match transaction.session.execute(WHAT, insert).await {
            Err(error) if is_deadlock(&error) && transaction.expected.is_nothing() => {
                transaction.session.restart(WHAT).await?;
            }
            result => return result.map(drop),
        }
    }
    Err(StorageError::new(
        StorageErrorKind::Conflict,
        format!("cannot {WHAT}: others wait for the same ones again and again"),
    ))
}

/// Whether the whole transaction was ended. A lock time-out ends the statement only, and is not tried again: its time is up.
fn is_deadlock(error: &StorageError) -> bool {
    error.kind() == StorageErrorKind::Conflict && error.to_string().contains("deadlock")
}

async fn standings<'i>(
    transaction: &mut MysqlInboxTransaction,
    token: Uuid,
    json: &str,
    known: &[&'i Identity],
) -> Result<(BTreeMap<&'i Identity, Standing>, Option<OffsetDateTime>), StorageError> {
    let consumer = transaction.consumer.clone();
    let name = || bind::<Binary, _>(consumer.as_str().as_bytes());
    let binds = (bind::<Binary, _>(token.as_bytes().as_slice()), bind::<Text, _>(json), name(), name());
    let look = Sql::<_, StandingColumns>::new(&transaction.statements.admitting.standings, binds);
    let rows: Vec<StandingRow> = transaction.session.load(WHAT, look).await?;
    let (mut stood, mut horizon) = (BTreeMap::new(), None);
    for (place, status, is_mine, micros) in rows {
        let Some(place) = usize::try_from(place).ok().and_then(|place| place.checked_sub(1)) else {
            horizon = micros.and_then(unix_time);
            continue;
        };
        let Some(identity) = known.get(place) else { continue };
        let found = if is_mine == Some(1) { Standing::New } else { standing(status.as_deref().unwrap_or_default()) };
        stood.insert(*identity, found);
    }
    Ok((stood, horizon))
}

async fn parked(
    transaction: &mut MysqlInboxTransaction,
    wanted: &BTreeSet<&OrderingKey>,
) -> Result<BTreeSet<OrderingKey>, StorageError> {
    let json = keys(wanted.iter().map(|key| (*key, "")));
    let binds = (bind::<Text, _>(json), bind::<Binary, _>(transaction.consumer.as_str().as_bytes()));
    let look = Sql::<_, Binary>::new(&transaction.statements.admitting.parked, binds);
    let rows: Vec<Vec<u8>> = transaction.session.load(WHAT, look).await?;
    Ok(rows.into_iter().map(OrderingKey::from_stored).collect())
}
