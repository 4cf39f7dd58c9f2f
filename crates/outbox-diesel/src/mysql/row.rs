//! Raw column values: read in forms that cannot fail, so that no row can poison a batch; and values as they stand in a statement.

use bytes::Bytes;
use mysql_async::{Row, Value};
use outbox_core::ports::ShardId;
use time::OffsetDateTime;
use uuid::Uuid;

/// The bytes of a column; `None` when it is NULL. Every value of a text reply is bytes.
pub(crate) fn bytes(row: &Row, index: usize) -> Option<&[u8]> {
    match row.as_ref(index) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Takes the bytes of a column out of the row without copying them.
pub(crate) fn take_bytes(row: &mut Row, index: usize) -> Option<Bytes> {
    match row.take::<Value, _>(index) {
        Some(Value::Bytes(bytes)) => Some(bytes.into()),
        _ => None,
    }
}

/// A number; `None` when it is NULL or too large.
pub(crate) fn number(row: &Row, index: usize) -> Option<i64> {
    std::str::from_utf8(bytes(row, index)?).ok()?.parse().ok()
}

/// A number; 0 when it is NULL.
pub(crate) fn big(row: &Row, index: usize) -> i64 {
    number(row, index).unwrap_or(0)
}

/// A shard.
pub(crate) fn shard(row: &Row, index: usize) -> ShardId {
    ShardId(u16::try_from(big(row, index)).unwrap_or(0))
}

/// An id; nil when the column holds something else.
pub(crate) fn uuid(row: &Row, index: usize) -> Uuid {
    bytes(row, index).and_then(|bytes| Uuid::from_slice(bytes).ok()).unwrap_or_default()
}

/// A text as well as it can be read.
pub(crate) fn lossy_text(row: &Row, index: usize) -> Option<String> {
    bytes(row, index).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A time from microseconds since 1970-01-01; `None` outside of the years 1 to 9999.
pub(crate) fn time_of(micros: i64) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok()?;
    (1..=9999).contains(&time.year()).then_some(time)
}

/// The SQL of a `datetime` as microseconds since 1970-01-01, exact in the whole range of the type; NULL for an impossible date.
pub(crate) fn micros_of(sql: &str) -> String {
    format!("timestampdiff(MICROSECOND, '1970-01-01', {sql})")
}

/// The server's clock when the expression is evaluated, in UTC because the session's time zone is: `utc_timestamp` stands still
/// while a statement waits for a lock.
pub(crate) const CLOCK: &str = "sysdate(6)";

/// An id as it stands in a statement.
pub(crate) fn id_literal(id: Uuid) -> String {
    format!("x'{}'", id.simple())
}

/// A text as it stands in a statement: in hexadecimal, so that it needs no escaping, which would depend on `sql_mode`.
pub(crate) fn text_literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() * 2 + 12);
    literal.push_str("_utf8mb4 ");
    push_bytes(&mut literal, text.as_bytes());
    literal
}

/// Bytes as they stand in a statement.
pub(crate) fn bytes_literal(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(bytes.len() * 2 + 3);
    push_bytes(&mut literal, bytes);
    literal
}

fn push_bytes(literal: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    literal.push_str("x'");
    for byte in bytes {
        literal.push(char::from(DIGITS[usize::from(byte >> 4)]));
        literal.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    literal.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_its_literal() {
        assert_eq!(text_literal("a'\\\"é"), "_utf8mb4 x'61275c22c3a9'");
        assert_eq!(text_literal(""), "_utf8mb4 x''");
    }

    #[test]
    fn times_that_no_message_can_have_are_none() {
        assert_eq!(time_of(0), Some(OffsetDateTime::UNIX_EPOCH));
        assert_eq!(time_of(i64::MAX), None);
        assert_eq!(time_of(i64::MIN), None);
    }
}
