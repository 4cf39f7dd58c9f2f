//! Held messages that are processed in this transaction.

use std::collections::BTreeSet;

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{ClaimToken, Identity};
use outbox_core::ports::{Fenced, StorageError};

use super::SqliteInboxTransaction;
use super::sql::render;
use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::sql::{Sql, bind};

const WHAT: &str = "complete held messages";

pub(super) struct Statements {
    remove: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { remove: render(tables, REMOVE) }
    }
}

const REMOVE: &str = "DELETE FROM {{held}} WHERE seq = ?2 AND consumer = ?1 AND status = 'processing' AND claim = ?3 \
    RETURNING source, id";

pub(super) async fn complete(
    transaction: &mut SqliteInboxTransaction,
    claim: ClaimToken,
    seqs: &[i64],
) -> Result<Fenced, StorageError> {
    let seqs: BTreeSet<i64> = seqs.iter().copied().collect();
    if seqs.is_empty() {
        return Ok(Fenced::Done);
    }
    let (statements, consumer, numbers) = (transaction.statements.clone(), transaction.consumer.clone(), seqs.clone());
    let work = move |sqlite: &mut SqliteConnection| -> QueryResult<Option<Vec<Identity>>> {
        let claim = claim.0.to_string();
        let mut identities = Vec::new();
        for seq in numbers {
            let (name, seq) = (bind::<Text, _>(consumer.as_str()), bind::<BigInt, _>(seq));
            let remove = Sql::<_, (Nullable<Text>, Nullable<Text>)>::new(
                &statements.completing.remove,
                (name, seq, bind::<Text, _>(claim.as_str())),
            );
            let removed = remove.get_result::<(Option<String>, Option<String>)>(sqlite).optional()?;
            let Some((source, id)) = removed else { return Ok(None) };
            identities.extend(source.zip(id).and_then(|(source, id)| Identity::new(source, id).ok()));
        }
        for identity in &identities {
            statements.common.set_message(sqlite, &consumer, identity.source(), identity.id(), Status::Processed)?;
        }
        Ok(Some(identities))
    };
    let Some(identities) = transaction.session.run(WHAT, work).await? else { return Ok(Fenced::Lost) };
    let expected = &mut transaction.expected;
    expected.messages.extend(identities.into_iter().map(|identity| (identity, Status::Processed)));
    expected.completed.extend(seqs);
    Ok(Fenced::Done)
}
