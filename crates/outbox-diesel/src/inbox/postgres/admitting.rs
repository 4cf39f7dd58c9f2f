//! Who was here before.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text};
use outbox_core::inbox::{Admission, Candidate, Identity, OrderingKey, Standing};
use outbox_core::ports::StorageError;

use super::PostgresInboxTransaction;
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, standing, unix_time};
use crate::sql::{Sql, bind};

const WHAT: &str = "admit messages";

pub(super) struct Statements {
    insert: String,
    standings: String,
    look: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { insert: tables.render(INSERT), standings: tables.render(STANDINGS), look: tables.render(LOOK) }
    }
}

/// In the order of the identities: two transactions with the same messages meet at the first one.
const INSERT: &str = "INSERT INTO {{messages}} (consumer, source, id) SELECT $1, c.source, c.id \
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS c(source, id, n) ORDER BY c.n \
    ON CONFLICT DO NOTHING RETURNING source, id";

const STANDINGS: &str = "SELECT m.source, m.id, m.status FROM unnest($2::text[], $3::text[]) AS c(source, id) \
    CROSS JOIN LATERAL (SELECT f.source, f.id, f.status FROM {{messages}} AS f \
    WHERE f.consumer = $1 AND f.source = c.source AND f.id = c.id LIMIT 1) AS m";

/// Parked keys, one a row, and a row with the horizon and the transaction's id.
const LOOK: &str = "WITH parked AS MATERIALIZED (SELECT p.ordering_key FROM {{parked_keys}} AS p \
    WHERE p.consumer = $1 AND p.ordering_key = ANY ($2) ORDER BY p.ordering_key FOR SHARE) \
    SELECT parked.ordering_key, NULL::bigint, NULL::text FROM parked \
    UNION ALL SELECT NULL, (SELECT (extract(epoch FROM h.horizon) * 1000000)::bigint FROM {{horizons}} AS h \
    WHERE h.consumer = $1), pg_current_xact_id_if_assigned()::text";

type Look = (Nullable<Binary>, Nullable<BigInt>, Nullable<Text>);
type LookRow = (Option<Vec<u8>>, Option<i64>, Option<String>);

pub(super) async fn admit(
    transaction: &mut PostgresInboxTransaction,
    candidates: &[Candidate],
) -> Result<Admission, StorageError> {
    let identities: BTreeSet<&Identity> = candidates.iter().map(|candidate| &candidate.identity).collect();
    let mut inserted = insert(transaction, &identities).await?;
    let known: Vec<&Identity> = identities.into_iter().filter(|identity| !inserted.contains(*identity)).collect();
    let stood = if known.is_empty() { BTreeMap::new() } else { standings(transaction, &known).await? };

    let keys: BTreeSet<&OrderingKey> = candidates.iter().filter_map(|candidate| candidate.key.as_ref()).collect();
    let keys: Vec<&[u8]> = keys.into_iter().map(OrderingKey::as_bytes).collect();
    let binds = (bind::<Text, _>(transaction.consumer.as_str()), bind::<Array<Binary>, _>(keys));
    let look = Sql::<_, Look>::new(&transaction.statements.admitting.look, binds);
    let rows: Vec<LookRow> = transaction.session.load(WHAT, look).await?;
    let (mut parked, mut horizon) = (BTreeSet::new(), None);
    for row in rows {
        match row {
            (Some(key), ..) => drop(parked.insert(OrderingKey::from_stored(key))),
            (None, micros, xid) => {
                horizon = micros.and_then(unix_time);
                transaction.expected.saw(WHAT, xid)?;
            }
        }
    }
    transaction.locked.extend(parked.iter().cloned());
    transaction.expected.messages.extend(inserted.iter().map(|identity| (identity.clone(), Status::Processed)));

    let standing = |candidate: &Candidate| match inserted.take(&candidate.identity) {
        Some(_) => Standing::New,
        None => stood.get(&candidate.identity).copied().unwrap_or(Standing::Processed),
    };
    Ok(Admission { standings: candidates.iter().map(standing).collect(), parked, horizon })
}

async fn insert(
    transaction: &mut PostgresInboxTransaction,
    identities: &BTreeSet<&Identity>,
) -> Result<BTreeSet<Identity>, StorageError> {
    if identities.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (sources, ids): (Vec<_>, Vec<_>) = identities.iter().map(|identity| (identity.source(), identity.id())).unzip();
    let consumer = bind::<Text, _>(transaction.consumer.as_str());
    let binds = (consumer, bind::<Array<Text>, _>(sources), bind::<Array<Text>, _>(ids));
    let insert = Sql::<_, (Text, Text)>::new(&transaction.statements.admitting.insert, binds);
    let rows: Vec<(String, String)> = transaction.session.load(WHAT, insert).await?;
    Ok(rows.into_iter().filter_map(|(source, id)| Identity::new(source, id).ok()).collect())
}

async fn standings(
    transaction: &mut PostgresInboxTransaction,
    identities: &[&Identity],
) -> Result<BTreeMap<Identity, Standing>, StorageError> {
    let (sources, ids): (Vec<_>, Vec<_>) = identities.iter().map(|identity| (identity.source(), identity.id())).unzip();
    let consumer = bind::<Text, _>(transaction.consumer.as_str());
    let binds = (consumer, bind::<Array<Text>, _>(sources), bind::<Array<Text>, _>(ids));
    let look = Sql::<_, (Text, Text, Text)>::new(&transaction.statements.admitting.standings, binds);
    let rows: Vec<(String, String, String)> = transaction.session.load(WHAT, look).await?;
    let known =
        |(source, id, status): (String, String, String)| Some((Identity::new(source, id).ok()?, standing(&status)));
    Ok(rows.into_iter().filter_map(known).collect())
}
