//! Dedup rows: who was here before.

use std::collections::{BTreeMap, BTreeSet};

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Admission, Candidate, Consumer, Identity, OrderingKey, Standing};
use outbox_core::ports::StorageError;

use super::SqliteInboxTransaction;
use super::sql::render;
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, standing, unix_time};
use crate::sql::{Sql, bind};

const WHAT: &str = "admit messages";

pub(super) struct Statements {
    insert: String,
    status: String,
    some_key: String,
    key: String,
    horizon: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        let sql = |text| render(tables, text);
        Self {
            insert: sql("INSERT INTO {{messages}} (consumer, source, id, status, processed_at) \
                 VALUES (?1, ?2, ?3, 'processed', {{now}}) ON CONFLICT DO NOTHING"),
            status: sql("SELECT status FROM {{messages}} WHERE consumer = ?1 AND source = ?2 AND id = ?3"),
            some_key: sql("SELECT EXISTS (SELECT 1 FROM {{parked_keys}} WHERE consumer = ?1)"),
            key: sql("SELECT EXISTS (SELECT 1 FROM {{parked_keys}} WHERE consumer = ?1 AND ordering_key = ?2)"),
            horizon: sql("SELECT horizon FROM {{horizons}} WHERE consumer = ?1"),
        }
    }
}

/// The write lock is held, so that one statement a row sees what one statement for all would.
pub(super) async fn admit(
    transaction: &mut SqliteInboxTransaction,
    candidates: &[Candidate],
) -> Result<Admission, StorageError> {
    let (statements, consumer) = (transaction.statements.clone(), transaction.consumer.clone());
    let candidates = candidates.to_vec();
    let work = move |sqlite: &mut SqliteConnection| {
        let statements = &statements.admitting;
        let standings = standings(sqlite, statements, &consumer, &candidates)?;
        let parked = parked(sqlite, statements, &consumer, &candidates)?;
        let name = (bind::<Text, _>(consumer.as_str()),);
        let horizon = Sql::<_, BigInt>::new(&statements.horizon, name).get_result::<i64>(sqlite).optional()?;
        let admission = Admission { standings, parked, horizon: horizon.and_then(unix_time) };
        Ok((admission, candidates))
    };
    let (admission, candidates) = transaction.session.run(WHAT, work).await?;
    let new = candidates.into_iter().zip(&admission.standings).filter(|(_, standing)| **standing == Standing::New);
    transaction.expected.messages.extend(new.map(|(candidate, _)| (candidate.identity, Status::Processed)));
    Ok(admission)
}

fn standings(
    sqlite: &mut SqliteConnection,
    statements: &Statements,
    consumer: &Consumer,
    candidates: &[Candidate],
) -> QueryResult<Vec<Standing>> {
    let mut by_identity: BTreeMap<&Identity, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        by_identity.entry(&candidate.identity).or_default().push(index);
    }
    let mut standings = vec![Standing::Processed; candidates.len()];
    for (identity, indexes) in by_identity {
        let row = || {
            let (source, id) = (bind::<Text, _>(identity.source()), bind::<Text, _>(identity.id()));
            (bind::<Text, _>(consumer.as_str()), source, id)
        };
        if Sql::<_>::new(&statements.insert, row()).execute(sqlite)? > 0 {
            standings[indexes[0]] = Standing::New;
            continue;
        }
        let status = Sql::<_, Text>::new(&statements.status, row()).get_result::<String>(sqlite)?;
        for index in indexes {
            standings[index] = standing(&status);
        }
    }
    Ok(standings)
}

fn parked(
    sqlite: &mut SqliteConnection,
    statements: &Statements,
    consumer: &Consumer,
    candidates: &[Candidate],
) -> QueryResult<BTreeSet<OrderingKey>> {
    let name = || bind::<Text, _>(consumer.as_str());
    if !Sql::<_, Bool>::new(&statements.some_key, (name(),)).get_result::<bool>(sqlite)? {
        return Ok(BTreeSet::new());
    }
    let keys: BTreeSet<&OrderingKey> = candidates.iter().filter_map(|candidate| candidate.key.as_ref()).collect();
    let mut parked = BTreeSet::new();
    for key in keys {
        let look = Sql::<_, Bool>::new(&statements.key, (name(), bind::<Binary, _>(key.as_bytes())));
        if look.get_result::<bool>(sqlite)? {
            parked.insert(key.clone());
        }
    }
    Ok(parked)
}
