//! Messages: what a service appends ([`NewMessage`]) and what the relay delivers ([`Message`]).

mod cloud_event;
mod headers;
mod limits;
mod new;
mod sequence;

pub use cloud_event::{CloudEvent, Inline};
pub use headers::Headers;
pub use limits::{InvalidMessage, Limits};
pub use new::NewMessage;
pub use sequence::Sequence;

use bytes::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ports::{Position, ShardId};

/// The content type of a payload whose writer named none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/json";

/// A committed message as a storage returns it to the relay.
///
/// The relay never decodes [`payload`](Self::payload).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Identity. Travels with the message; consumers deduplicate on it. Set by the library (UUID v7) or the caller.
    pub id: Uuid,
    /// The shard of the ordering key, computed by the database.
    pub shard: ShardId,
    /// Enqueue order, set by the database. Unique within the storage.
    pub seq: i64,
    /// What changed, for example `order`. At most 255 characters. Set by the caller.
    pub aggregate_type: String,
    /// Which one: the ordering and partition key. `None`: no order is wanted. At most 255 characters.
    pub aggregate_id: Option<String>,
    /// What happened, for example `order.placed`. At most 255 characters. Set by the caller.
    pub event_type: String,
    /// Opaque bytes.
    pub payload: Payload,
    /// Media type of the payload; [`DEFAULT_CONTENT_TYPE`] unless the caller set another.
    pub content_type: String,
    /// Text by name. Set by the library (trace context) and the caller.
    pub headers: Headers,
    /// Domain time, UTC. Set by the caller, or the time of the append.
    pub occurred_at: OffsetDateTime,
    /// Failed delivery attempts so far. Written by the relay.
    pub attempts: u32,
}

impl Message {
    /// Where the row is: what settle statements match.
    pub fn position(&self) -> Position {
        Position { shard: self.shard, seq: self.seq, id: self.id }
    }

    /// The lane of this message's ordering key; `None` when it has no key.
    pub fn lane(&self) -> Option<LaneKey> {
        self.aggregate_id.as_deref().map(|id| LaneKey::of(&self.aggregate_type, id))
    }

    /// Approximate size in memory, in bytes: what the byte budgets count.
    pub fn size_bytes(&self) -> usize {
        self.payload.0.len()
            + self.aggregate_type.len()
            + self.aggregate_id.as_deref().map_or(0, str::len)
            + self.event_type.len()
            + self.headers.size_bytes()
    }
}

/// The payload of a message: opaque bytes whose `Debug` shows the length only, so that no log can leak them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Bytes);

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A 64-bit digest of an ordering key (`aggregate_type`, `aggregate_id`).
///
/// Messages with the same digest form one lane. Two keys that collide share a lane: they stay ordered and only wait
/// for each other, so a collision is never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(pub u64);

impl LaneKey {
    /// The lane of a key.
    pub fn of(aggregate_type: &str, aggregate_id: &str) -> Self {
        use std::hash::Hasher;
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(aggregate_type.as_bytes());
        hasher.write_u8(0xff); // no UTF-8 text contains it, so the two parts cannot run into each other
        hasher.write(aggregate_id.as_bytes());
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(LaneKey::of("order", "1"), LaneKey::of("order1", ""));
        assert_eq!(LaneKey::of("order", "1"), LaneKey::of("order", "1"));
    }

    #[test]
    fn debug_of_a_payload_shows_only_its_length() {
        assert_eq!(format!("{:?}", Payload::from(b"secret".to_vec())), "Payload(6 bytes)");
    }
}
