//! Messages that the database keeps: held ones and dead letters.

use diesel::sql_types::{BigInt, Binary, Text};
use outbox_core::inbox::{Aside, Fate};
use outbox_core::ports::StorageError;

use super::json::{IDENTITIES, NUMBERS, identities, list, numbers};
use super::rows::{COLUMNS, Rows, parts, values};
use super::{MysqlInboxTransaction, parking};
use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::mysql::error::unexpected_reply;
use crate::sql::{Sql, bind};

const WHAT: &str = "put messages aside";

pub(super) struct Statements {
    mark: String,
    hold: String,
    bury: String,
    remove: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            mark: tables.render(&MARK.replace("{IDENTITIES}", IDENTITIES)),
            hold: tables.render(&format!("INSERT INTO {{{{held}}}} ({COLUMNS}) VALUES ")),
            bury: tables.render(BURY),
            remove: tables.render(&REMOVE.replace("{NUMBERS}", NUMBERS)),
        }
    }
}

const MARK: &str = "UPDATE {IDENTITIES} STRAIGHT_JOIN {{messages}} AS m FORCE INDEX (PRIMARY) \
    ON m.consumer = ? AND m.source = unhex(v.source) AND m.id = unhex(v.id) \
    SET m.status = v.word, m.processed_at = utc_timestamp(6)";

/// The number of the first row of the insert before, and the step to the next.
const NUMBERED: &str = "SELECT cast(last_insert_id() AS signed), cast(@@SESSION.auto_increment_increment AS signed)";

/// Dead letters have been held for a moment, for their number.
const BURY: &str = "INSERT INTO {{dead_letters}} (consumer, seq, source, id, ordering_key, stream, `partition`, position, record_key, \
    headers, payload, sent_at, redelivered, attempts, error, reason, parks_key) SELECT h.consumer, h.seq, h.source, h.id, h.ordering_key, \
    h.stream, h.`partition`, h.position, h.record_key, h.headers, h.payload, h.sent_at, h.redelivered, h.attempts, \
    coalesce(h.error, ''), v.reason, v.parks FROM json_table(cast(? AS char), '$[*]' COLUMNS (seq bigint PATH '$[0]', \
    reason varchar(32) PATH '$[1]', parks integer PATH '$[2]')) AS v \
    STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq";

const REMOVE: &str = "DELETE h FROM {NUMBERS} STRAIGHT_JOIN {{held}} AS h FORCE INDEX (PRIMARY) ON h.seq = v.seq";

pub(super) async fn put_aside(transaction: &mut MysqlInboxTransaction, messages: &[Aside]) -> Result<(), StorageError> {
    if messages.is_empty() {
        return Ok(());
    }
    parking::park(transaction, messages).await?;
    mark(transaction, messages).await?;
    let mut dead = Vec::new();
    for part in parts(messages) {
        for (seq, aside) in hold(transaction, part).await?.zip(part) {
            match &aside.fate {
                Fate::Dead { reason, park_key, .. } => dead.push((seq, *reason, *park_key && aside.key.is_some())),
                Fate::Received | Fate::Waiting | Fate::Failed { .. } => transaction.expected.held.push(seq),
            }
        }
    }
    if dead.is_empty() {
        return Ok(());
    }
    let json = list(&dead, |json, (seq, reason, parks)| {
        json.push_str(&format!("[{seq},\"{}\",{}]", reason.as_str(), i32::from(*parks)));
    });
    let statements = transaction.statements.clone();
    let bury = Sql::<_>::new(&statements.asides.bury, (bind::<Text, _>(json),));
    transaction.session.execute(WHAT, bury).await?;
    let seqs: Vec<i64> = dead.into_iter().map(|(seq, ..)| seq).collect();
    let remove = Sql::<_>::new(&statements.asides.remove, (bind::<Text, _>(numbers(&seqs)),));
    transaction.session.execute(WHAT, remove).await?;
    transaction.expected.dead.extend(seqs);
    Ok(())
}

/// Inserts messages, in their order, and returns their numbers.
async fn hold(
    transaction: &mut MysqlInboxTransaction,
    part: &[Aside],
) -> Result<impl Iterator<Item = i64> + use<>, StorageError> {
    let text = format!("{}{}", transaction.statements.asides.hold, values(part.len()));
    let consumer = transaction.consumer.clone();
    let hold = Sql::<_>::new(&text, Rows::of(consumer.as_str(), part));
    transaction.session.execute(WHAT, hold).await?;
    let rows: Vec<(i64, i64)> = transaction.session.load(WHAT, Sql::<_, (BigInt, BigInt)>::new(NUMBERED, ())).await?;
    let (first, step) = rows.into_iter().next().ok_or_else(|| unexpected_reply(WHAT))?;
    Ok((0..).map(move |n: i64| first + n * step))
}

/// Sets the dedup rows, which are this transaction's own.
async fn mark(transaction: &mut MysqlInboxTransaction, messages: &[Aside]) -> Result<(), StorageError> {
    let with_identity = messages.iter().filter_map(|aside| Some((aside.identity.as_ref()?, Status::of(&aside.fate))));
    let states: Vec<_> = with_identity.collect();
    if states.is_empty() {
        return Ok(());
    }
    let json = identities(states.iter().map(|(identity, status)| (*identity, status.as_str())));
    let binds = (bind::<Text, _>(json), bind::<Binary, _>(transaction.consumer.as_str().as_bytes()));
    let mark = Sql::<_>::new(&transaction.statements.asides.mark, binds);
    transaction.session.execute(WHAT, mark).await?;
    transaction.expected.messages.extend(states.into_iter().map(|(identity, status)| (identity.clone(), status)));
    Ok(())
}
