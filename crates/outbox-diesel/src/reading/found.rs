//! A row of a read, decoded.

use outbox_core::Message;
use outbox_core::message::LaneKey;
use outbox_core::ports::Position;

/// A row of the messages table.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which part of the statement found it, by the reader's own numbers.
    pub(crate) kind: i32,
    /// Bytes of its payload, also when that was not loaded.
    pub(crate) payload_bytes: usize,
    /// Whether the payload is in the message.
    pub(crate) loaded: bool,
    /// When it is due, in microseconds of the database's epoch.
    pub(crate) wake_at: Option<i64>,
    /// The message, or what can be said about a row that is none.
    pub(crate) message: Result<Message, Undecodable>,
}

/// A row that holds an impossible value.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) position: Position,
    pub(crate) lane: Option<LaneKey>,
}

impl Found {
    pub(crate) fn position(&self) -> Position {
        match &self.message {
            Ok(message) => message.position(),
            Err(undecodable) => undecodable.position,
        }
    }

    pub(crate) fn lane(&self) -> Option<LaneKey> {
        match &self.message {
            Ok(message) => message.lane(),
            Err(undecodable) => undecodable.lane,
        }
    }
}
