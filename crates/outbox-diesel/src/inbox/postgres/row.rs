//! Rows of held messages and dead letters.

use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use outbox_core::inbox::{HeldMessage, Identity, InboxDeadLetter, Incoming, IncomingHeaders, OrderingKey, Partition};
use time::OffsetDateTime;

use crate::postgres::row::{PgRow, RowOf, big, blob, flag, int, lossy_text, time};

/// The columns that [`MessageRow`] and [`LetterRow`] begin with, of a row named `h`.
pub(super) const COLUMNS: &str = "h.seq, h.source, h.id, h.ordering_key, h.stream, h.partition, h.position, h.record_key, \
    h.headers, h.payload, h.sent_at, h.redelivered, h.attempts";

/// How many they are.
const NEXT: usize = 13;

/// [`COLUMNS`] of a held message.
pub(super) struct MessageRow(pub(super) HeldMessage);

impl QueryableByName<Pg> for MessageRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Ok(Self(message(&PgRow(row))))
    }
}

/// [`COLUMNS`] of a dead letter, `reason`, `error`, `died_at`.
pub(super) struct LetterRow(pub(super) InboxDeadLetter);

impl QueryableByName<Pg> for LetterRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        let HeldMessage { seq, identity, key, incoming, attempts } = message(row);
        let reason = lossy_text(row, NEXT).unwrap_or_default();
        let error = lossy_text(row, NEXT + 1).unwrap_or_default();
        let died_at = time(row, NEXT + 2).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(Self(InboxDeadLetter { seq, identity, key, incoming, reason, error, attempts, died_at }))
    }
}

fn message(row: &impl RowOf) -> HeldMessage {
    let identity = lossy_text(row, 1).zip(lossy_text(row, 2)).and_then(|(source, id)| Identity::new(source, id).ok());
    let incoming = Incoming {
        partition: Partition::new(lossy_text(row, 4).unwrap_or_default(), int(row, 5)),
        position: big(row, 6),
        key: blob(row, 7).map(Into::into),
        headers: IncomingHeaders::from_json(&lossy_text(row, 8).unwrap_or_default()),
        payload: blob(row, 9).map(Into::into),
        timestamp: time(row, 10),
        redelivered: flag(row, 11),
    };
    let key = blob(row, 3).map(OrderingKey::from_stored);
    HeldMessage { seq: big(row, 0), identity, key, incoming, attempts: u32::try_from(int(row, 12)).unwrap_or(0) }
}
