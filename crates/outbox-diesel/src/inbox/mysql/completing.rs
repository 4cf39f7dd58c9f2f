//! Held messages that are processed in this transaction.

use diesel::sql_types::{Binary, Nullable, Text};
use outbox_core::inbox::{ClaimToken, Identity};
use outbox_core::ports::{Fenced, StorageError};

use super::MysqlInboxTransaction;
use super::json::{IDENTITIES, NUMBERS, identities, numbers};
use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::sql::{Sql, bind};

const WHAT: &str = "complete held messages";

pub(super) struct Statements {
    find: String,
    mark: String,
    remove: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            find: tables.render(&FIND.replace("{NUMBERS}", NUMBERS)),
            mark: tables.render(&MARK.replace("{IDENTITIES}", IDENTITIES)),
            remove: tables.render(&REMOVE.replace("{NUMBERS}", NUMBERS)),
        }
    }
}

/// Without a lock: dedup rows come before held rows.
const FIND: &str = "SELECT h.source, h.id FROM {NUMBERS} STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq \
    WHERE h.consumer = ? AND h.status = 'processing' AND h.claim = ?";

/// In the order of the identities. The row is there, unless somebody has deleted it by hand.
const MARK: &str = "INSERT INTO {{messages}} (consumer, source, id) SELECT ?, unhex(v.source), unhex(v.id) \
    FROM {IDENTITIES} ORDER BY v.n ON DUPLICATE KEY UPDATE status = 'processed', processed_at = utc_timestamp(6)";

const REMOVE: &str = "DELETE h FROM {NUMBERS} STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq \
    WHERE h.consumer = ? AND h.status = 'processing' AND h.claim = ?";

/// Source and id, as bytes.
type Found = (Option<Vec<u8>>, Option<Vec<u8>>);

pub(super) async fn complete(
    transaction: &mut MysqlInboxTransaction,
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
    let name = || bind::<Binary, _>(consumer.as_str().as_bytes());
    let json = numbers(&seqs);
    let mine = || (bind::<Text, _>(json.as_str()), name(), bind::<Binary, _>(claim.0.as_bytes().as_slice()));

    let find = Sql::<_, (Nullable<Binary>, Nullable<Binary>)>::new(&statements.completing.find, mine());
    let found: Vec<Found> = transaction.session.load(WHAT, find).await?;
    if found.len() != seqs.len() {
        return Ok(Fenced::Lost);
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let identity = |(source, id): Found| Identity::new(text(source?)?, text(id?)?).ok();
    let mut processed: Vec<Identity> = found.into_iter().filter_map(identity).collect();
    processed.sort_unstable();
    processed.dedup();
    if !processed.is_empty() {
        let json = identities(processed.iter().map(|identity| (identity, Status::Processed.as_str())));
        let mark = Sql::<_>::new(&statements.completing.mark, (name(), bind::<Text, _>(json)));
        transaction.session.execute(WHAT, mark).await?;
    }
    let removed = transaction.session.execute(WHAT, Sql::<_>::new(&statements.completing.remove, mine())).await?;
    if removed != seqs.len() {
        return Ok(Fenced::Lost);
    }
    transaction.expected.messages.extend(processed.into_iter().map(|identity| (identity, Status::Processed)));
    transaction.expected.completed.extend(seqs);
    Ok(Fenced::Done)
}
