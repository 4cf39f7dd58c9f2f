//! Held messages that are processed in this transaction.

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use outbox_core::inbox::{ClaimToken, Identity};
use outbox_core::ports::{Fenced, StorageError};

use super::PostgresInboxTransaction;
use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::sql::{Sql, bind};

const WHAT: &str = "complete held messages";

pub(super) struct Statements {
    lock: String,
    remove: String,
    mark: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { lock: tables.render(LOCK), remove: tables.render(REMOVE), mark: tables.render(MARK) }
    }
}

/// Dedup rows come before held rows, sorted.
const LOCK: &str = "SELECT 1 FROM {{held}} AS h JOIN {{messages}} AS m \
    ON m.consumer = h.consumer AND m.source = h.source AND m.id = h.id \
    WHERE h.seq = ANY ($2) AND h.consumer = $1 ORDER BY m.source, m.id FOR UPDATE OF m";

const REMOVE: &str = "DELETE FROM {{held}} WHERE seq = ANY ($2) AND consumer = $1 AND status = 'processing' AND claim = $3 \
    RETURNING source, id, pg_current_xact_id()::text";

/// The row is there, unless somebody has deleted it by hand.
const MARK: &str = "INSERT INTO {{messages}} (consumer, source, id) SELECT $1, c.source, c.id \
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS c(source, id, n) ORDER BY c.n \
    ON CONFLICT (consumer, source, id) DO UPDATE SET status = 'processed', processed_at = clock_timestamp() RETURNING 1";

pub(super) async fn complete(
    transaction: &mut PostgresInboxTransaction,
    claim: ClaimToken,
    seqs: &[i64],
) -> Result<Fenced, StorageError> {
    let mut seqs = seqs.to_vec();
    seqs.sort_unstable();
    seqs.dedup();
    if seqs.is_empty() {
        return Ok(Fenced::Done);
    }
    let statements = transaction.statements.clone();
    let consumer = transaction.consumer.clone();

    let binds = (bind::<Text, _>(consumer.as_str()), bind::<Array<BigInt>, _>(seqs.as_slice()));
    let lock = Sql::<_, Integer>::new(&statements.completing.lock, binds);
    let _: Vec<i32> = transaction.session.load(WHAT, lock).await?;

    let (name, numbers) = (bind::<Text, _>(consumer.as_str()), bind::<Array<BigInt>, _>(seqs.as_slice()));
    let binds = (name, numbers, bind::<SqlUuid, _>(claim.0));
    let remove = Sql::<_, (Nullable<Text>, Nullable<Text>, Text)>::new(&statements.completing.remove, binds);
    let removed: Vec<(Option<String>, Option<String>, String)> = transaction.session.load(WHAT, remove).await?;
    if removed.len() != seqs.len() {
        return Ok(Fenced::Lost);
    }
    let mut identities = Vec::new();
    for (source, id, xid) in removed {
        transaction.expected.saw(WHAT, Some(xid))?;
        identities.extend(source.zip(id).and_then(|(source, id)| Identity::new(source, id).ok()));
    }
    identities.sort_unstable();
    identities.dedup();
    if !identities.is_empty() {
        let (sources, ids): (Vec<_>, Vec<_>) =
            identities.iter().map(|identity| (identity.source(), identity.id())).unzip();
        let name = bind::<Text, _>(consumer.as_str());
        let binds = (name, bind::<Array<Text>, _>(sources), bind::<Array<Text>, _>(ids));
        let mark = Sql::<_, Integer>::new(&statements.completing.mark, binds);
        let _: Vec<i32> = transaction.session.load(WHAT, mark).await?;
    }
    transaction.expected.messages.extend(identities.into_iter().map(|identity| (identity, Status::Processed)));
    transaction.expected.completed.extend(seqs);
    Ok(Fenced::Done)
}
