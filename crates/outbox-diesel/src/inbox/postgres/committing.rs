//! Reading back, and committing.

use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text};
use outbox_core::inbox::{Committed, OrderingKey};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::PostgresInboxTransaction;
use super::session::Commit;
use crate::inbox::InboxTables;
use crate::sql::{Sql, bind};

const WHAT: &str = "commit a transaction";

pub(super) struct Statements {
    verify: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { verify: tables.render(VERIFY) }
    }
}

/// Counts what is there of what must be; the last number must be zero.
const VERIFY: &str = "SELECT (SELECT count(*) FROM unnest($2::text[], $3::text[], $4::text[]) AS e(source, id, status) \
    CROSS JOIN LATERAL (SELECT FROM {{messages}} AS m WHERE m.consumer = $1 AND m.source = e.source AND m.id = e.id \
    AND m.status = e.status LIMIT 1) AS f), \
    (SELECT count(*) FROM {{held}} WHERE seq = ANY ($5)), \
    (SELECT count(*) FROM {{dead_letters}} WHERE consumer = $1 AND seq = ANY ($6)), \
    (SELECT count(*) FROM {{parked_keys}} WHERE consumer = $1 AND ordering_key = ANY ($7)), \
    (SELECT count(*) FROM {{held}} WHERE seq = ANY ($8)), \
    pg_current_xact_id_if_assigned()::text";

type Counts = (BigInt, BigInt, BigInt, BigInt, BigInt, Nullable<Text>);

/// A handler may have swallowed an error, after which the server answers COMMIT with a rollback and no error.
pub(super) async fn commit(mut transaction: PostgresInboxTransaction) -> Result<Committed, StorageError> {
    if !transaction.session.is_at_its_top() {
        // a savepoint that was left open: what is in it is neither wanted nor not
        return Ok(Committed::Broken);
    }
    match is_whole(&mut transaction).await {
        Ok(true) => {}
        Ok(false) => {
            transaction.session.roll_back().await;
            return Ok(Committed::Broken);
        }
        Err(error) if is_of_the_transaction(&error) => {
            transaction.session.roll_back().await;
            return Ok(Committed::Broken);
        }
        Err(error) => return Err(error),
    }
    match transaction.session.commit(WHAT).await? {
        Commit::Done => Ok(Committed::Done),
        Commit::Refused => Ok(Committed::Broken),
    }
}

/// Whether the server answered that this transaction can do nothing more: the lost connection, for one, says nothing about it.
fn is_of_the_transaction(error: &StorageError) -> bool {
    matches!(error.kind(), StorageErrorKind::Other | StorageErrorKind::Refused)
}

async fn is_whole(transaction: &mut PostgresInboxTransaction) -> Result<bool, StorageError> {
    let PostgresInboxTransaction { session, statements, consumer, expected, .. } = transaction;
    let (mut sources, mut ids, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for (identity, status) in &expected.messages {
        sources.push(identity.source());
        ids.push(identity.id());
        states.push(status.as_str());
    }
    let keys: Vec<&[u8]> = expected.parked.iter().map(OrderingKey::as_bytes).collect();
    let whole = [sources.len(), expected.held.len(), expected.dead.len(), keys.len(), 0].map(|count| count as i64);
    let binds = (
        bind::<Text, _>(consumer.as_str()),
        bind::<Array<Text>, _>(sources),
        bind::<Array<Text>, _>(ids),
        bind::<Array<Text>, _>(states),
        bind::<Array<BigInt>, _>(expected.held.as_slice()),
        bind::<Array<BigInt>, _>(expected.dead.as_slice()),
        bind::<Array<Binary>, _>(keys),
        bind::<Array<BigInt>, _>(expected.completed.as_slice()),
    );
    let verify = Sql::<_, Counts>::new(&statements.committing.verify, binds);
    let (messages, held, dead, parked, completed, xid): (i64, i64, i64, i64, i64, Option<String>) =
        session.one(WHAT, verify).await?;
    let same = expected.xid.is_none() || expected.xid == xid;
    Ok(same && [messages, held, dead, parked, completed] == whole)
}
