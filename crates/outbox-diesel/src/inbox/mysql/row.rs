//! Rows of held messages and dead letters.

use mysql_async::Row;
use outbox_core::inbox::{HeldMessage, Identity, InboxDeadLetter, Incoming, IncomingHeaders, OrderingKey, Partition};
use time::OffsetDateTime;

use crate::mysql::row::{big, bytes, lossy_text, micros_of, number, take_bytes, time_of};

/// The columns that a message's row begins with, of a table named `h`.
pub(super) fn columns() -> String {
    format!(
        "h.seq, h.source, h.id, h.ordering_key, h.stream, h.`partition`, h.position, h.record_key, h.headers, h.payload, {}, \
         h.redelivered, h.attempts",
        micros_of("h.sent_at")
    )
}

/// How many they are.
const NEXT: usize = 13;

/// A held message from its [`columns`].
pub(super) fn held_message(mut row: Row) -> HeldMessage {
    message(&mut row)
}

/// A dead letter from its [`columns`], `reason`, `error`, and `died_at` in microseconds.
pub(super) fn dead_letter(mut row: Row) -> InboxDeadLetter {
    let HeldMessage { seq, identity, key, incoming, attempts } = message(&mut row);
    let reason = lossy_text(&row, NEXT).unwrap_or_default();
    let error = lossy_text(&row, NEXT + 1).unwrap_or_default();
    let died_at = number(&row, NEXT + 2).and_then(time_of).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    InboxDeadLetter { seq, identity, key, incoming, reason, error, attempts, died_at }
}

/// An ordering key; `None`: NULL.
pub(super) fn ordering_key(row: &Row, index: usize) -> Option<OrderingKey> {
    bytes(row, index).map(|bytes| OrderingKey::from_stored(bytes.to_vec()))
}

/// The identity in these columns and the next; `None`: NULL.
pub(super) fn identity(row: &Row, index: usize) -> Option<Identity> {
    let (source, id) = lossy_text(row, index).zip(lossy_text(row, index + 1))?;
    Identity::new(source, id).ok()
}

fn message(row: &mut Row) -> HeldMessage {
    let number_of = |index: usize| i32::try_from(big(row, index)).unwrap_or(0);
    let incoming = Incoming {
        partition: Partition::new(lossy_text(row, 4).unwrap_or_default(), number_of(5)),
        position: big(row, 6),
        headers: IncomingHeaders::from_json(&lossy_text(row, 8).unwrap_or_default()),
        timestamp: number(row, 10).and_then(time_of),
        redelivered: big(row, 11) != 0,
        key: take_bytes(row, 7).map(|bytes| Vec::from(bytes).into()),
        payload: take_bytes(row, 9).map(|bytes| Vec::from(bytes).into()),
    };
    let attempts = u32::try_from(big(row, 12)).unwrap_or(0);
    HeldMessage { seq: big(row, 0), identity: identity(row, 1), key: ordering_key(row, 3), incoming, attempts }
}
