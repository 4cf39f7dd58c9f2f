//! Rows of held messages and dead letters, read in forms that cannot fail.

use diesel::sql_types::{BigInt, Binary, Bool, Nullable};
use outbox_core::inbox::{HeldMessage, Identity, InboxDeadLetter, Incoming, IncomingHeaders, OrderingKey, Partition};
use time::OffsetDateTime;

use crate::inbox::shared::unix_time;

/// The columns of a [`MessageRow`].
pub(super) const COLUMNS: &str = "seq, CAST(source AS BLOB), CAST(id AS BLOB), ordering_key, CAST(stream AS BLOB), partition, position, \
    record_key, CAST(headers AS BLOB), payload, sent_at, redelivered, attempts";

/// The types of [`COLUMNS`].
pub(super) type MessageTypes = (
    BigInt,
    Nullable<Binary>,
    Nullable<Binary>,
    Nullable<Binary>,
    Binary,
    BigInt,
    BigInt,
    Nullable<Binary>,
    Binary,
    Nullable<Binary>,
    Nullable<BigInt>,
    Bool,
    BigInt,
);

#[derive(diesel::Queryable)]
pub(super) struct MessageRow {
    seq: i64,
    source: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    ordering_key: Option<Vec<u8>>,
    stream: Vec<u8>,
    partition: i64,
    position: i64,
    record_key: Option<Vec<u8>>,
    headers: Vec<u8>,
    payload: Option<Vec<u8>>,
    sent_at: Option<i64>,
    redelivered: bool,
    attempts: i64,
}

impl From<MessageRow> for HeldMessage {
    fn from(row: MessageRow) -> Self {
        let identity = row.source.zip(row.id);
        let identity = identity.and_then(|(source, id)| Identity::new(lossy(source), lossy(id)).ok());
        let incoming = Incoming {
            partition: Partition::new(lossy(row.stream), i32::try_from(row.partition).unwrap_or(i32::MAX)),
            position: row.position,
            key: row.record_key.map(Into::into),
            headers: IncomingHeaders::from_json(&lossy(row.headers)),
            payload: row.payload.map(Into::into),
            timestamp: row.sent_at.and_then(unix_time),
            redelivered: row.redelivered,
        };
        let key = row.ordering_key.map(OrderingKey::from_stored);
        Self { seq: row.seq, identity, key, incoming, attempts: u32::try_from(row.attempts).unwrap_or(0) }
    }
}

/// [`COLUMNS`] of a dead letter, then its end.
pub(super) type LetterTypes = (MessageTypes, EndTypes);

/// `reason`, `error`, `died_at`.
pub(super) type EndTypes = (Binary, Binary, BigInt);

#[derive(diesel::Queryable)]
pub(super) struct LetterRow {
    message: MessageRow,
    end: (Vec<u8>, Vec<u8>, i64),
}

impl From<LetterRow> for InboxDeadLetter {
    fn from(row: LetterRow) -> Self {
        let HeldMessage { seq, identity, key, incoming, attempts } = row.message.into();
        let (reason, error, died_at) = row.end;
        let died_at = unix_time(died_at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { seq, identity, key, incoming, reason: lossy(reason), error: lossy(error), attempts, died_at }
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
