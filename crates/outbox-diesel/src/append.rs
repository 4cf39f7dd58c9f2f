//! What appending has in common on every backend.

use outbox_core::{InvalidMessage, Limits, NewMessage};

/// Bytes of all payloads and headers of one bulk append, on every backend alike: PostgreSQL takes no message over 1 GiB, and closes
/// the connection instead of refusing it.
const BULK_BYTES: usize = 256 * 1024 * 1024;

/// Why an append failed. The transaction is the caller's: with [`Invalid`](Self::Invalid) nothing was sent and it is as
/// usable as before; with [`Database`](Self::Database) the database says what it is worth (PostgreSQL: roll it back).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A message breaks a limit.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The database refused the insert or could not be reached.
    #[error("cannot append to the outbox")]
    Database(#[from] diesel::result::Error),
}

/// Checks every message and the size of them all, before anything is sent.
pub(crate) fn check_all(limits: &Limits, messages: &[NewMessage]) -> Result<(), InvalidMessage> {
    let mut bytes = 0;
    for message in messages {
        limits.check(message)?;
        bytes += size_bytes(message);
    }
    if bytes > BULK_BYTES {
        return Err(InvalidMessage::TooLong {
            field: "bulk append",
            actual: bytes,
            limit: BULK_BYTES,
            unit: "bytes",
            fix: "append the messages in several calls within the same transaction",
        });
    }
    Ok(())
}

/// The headers as the JSON object text that the column takes.
pub(crate) fn headers_json(message: &NewMessage) -> String {
    outbox_core::Headers::from_map(&message.headers).as_json().to_owned()
}

/// Bytes whose `Debug` shows the length only: Diesel's instrumentation prints the binds of a statement.
#[derive(Clone, Copy)]
pub(crate) struct Opaque<'a>(pub(crate) &'a [u8]);

impl std::fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

pub(crate) fn size_bytes(message: &NewMessage) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.payload.as_ref().len() + headers + message.aggregate_id.as_deref().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_append_is_bounded_in_bytes() {
        let payload = outbox_core::message::Payload::from(vec![0_u8; 1_000_000]);
        let message = NewMessage::new("order", "order.placed", payload.0);
        let error = check_all(&Limits::default(), &vec![message; 300]).unwrap_err();
        assert!(matches!(error, InvalidMessage::TooLong { field: "bulk append", actual: 300_000_000, .. }));
    }
}
