//! Reading back, and committing.

use diesel::sql_types::{BigInt, Binary, Text};
use outbox_core::inbox::Committed;
use outbox_core::ports::StorageError;

use super::MysqlInboxTransaction;
use super::json::{IDENTITIES, KEYS, NUMBERS, identities, keys, numbers};
use super::session::Commit;
use crate::inbox::InboxTables;
use crate::sql::{Sql, bind};

const WHAT: &str = "commit a transaction";

pub(super) struct Statements {
    verify: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        let text = VERIFY.replace("{IDENTITIES}", IDENTITIES).replace("{NUMBERS}", NUMBERS).replace("{KEYS}", KEYS);
        Self { verify: tables.render(&text) }
    }
}

/// Counts what is there of what must be; the last number must be zero.
const VERIFY: &str = "SELECT (SELECT count(*) FROM {IDENTITIES} STRAIGHT_JOIN {{messages}} AS m FORCE INDEX (PRIMARY) \
    ON m.consumer = ? AND m.source = unhex(v.source) AND m.id = unhex(v.id) WHERE m.status = v.word), \
    (SELECT count(*) FROM {NUMBERS} STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq WHERE h.consumer = ?), \
    (SELECT count(*) FROM {NUMBERS} STRAIGHT_JOIN {{dead_letters}} AS d FORCE INDEX (PRIMARY) \
    ON d.consumer = ? AND d.seq = v.seq), \
    (SELECT count(*) FROM {KEYS} STRAIGHT_JOIN {{parked_keys}} AS p FORCE INDEX (PRIMARY) \
    ON p.consumer = ? AND p.ordering_key = unhex(v.ordering_key)), \
    (SELECT count(*) FROM {NUMBERS} STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq)";

type Counts = (BigInt, BigInt, BigInt, BigInt, BigInt);

/// A handler may have swallowed a deadlock, which has ended the transaction: what it did afterwards is in another, with no row of ours.
pub(super) async fn commit(mut transaction: MysqlInboxTransaction) -> Result<Committed, StorageError> {
    if !transaction.session.is_at_its_top() {
        // a savepoint that was left open: what is in it is neither wanted nor not
        return Ok(Committed::Broken);
    }
    if !is_whole(&mut transaction).await? {
        transaction.session.roll_back().await;
        return Ok(Committed::Broken);
    }
    match transaction.session.commit(WHAT).await? {
        Commit::Done => Ok(Committed::Done),
        Commit::Ended => Ok(Committed::Broken),
    }
}

async fn is_whole(transaction: &mut MysqlInboxTransaction) -> Result<bool, StorageError> {
    let MysqlInboxTransaction { session, statements, consumer, expected, .. } = transaction;
    if expected.is_nothing() {
        return Ok(true);
    }
    let name = || bind::<Binary, _>(consumer.as_str().as_bytes());
    let binds = (
        bind::<Text, _>(identities(expected.messages.iter().map(|(identity, status)| (identity, status.as_str())))),
        name(),
        bind::<Text, _>(numbers(&expected.held)),
        name(),
        bind::<Text, _>(numbers(&expected.dead)),
        name(),
        bind::<Text, _>(keys(expected.parked.iter().map(|key| (key, "")))),
        name(),
        bind::<Text, _>(numbers(&expected.completed)),
    );
    let verify = Sql::<_, Counts>::new(&statements.committing.verify, binds);
    let rows: Vec<(i64, i64, i64, i64, i64)> = session.load(WHAT, verify).await?;
    let whole = [expected.messages.len(), expected.held.len(), expected.dead.len(), expected.parked.len(), 0];
    let whole = whole.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Ok(rows.iter().any(|(messages, held, dead, parked, left)| [*messages, *held, *dead, *parked, *left] == whole))
}
