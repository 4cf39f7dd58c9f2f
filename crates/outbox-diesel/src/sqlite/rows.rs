//! Rows of the messages table, read in forms that cannot fail, and what becomes of each.

use diesel::sql_types::{BigInt, Binary, Bool, Nullable};
use outbox_core::message::{LaneKey, Payload};
use outbox_core::ports::{DeadReason, HeldHead, Position, ReadLimits, Refused, ShardId};
use outbox_core::{Headers, Message};
use time::OffsetDateTime;
use uuid::Uuid;

/// The columns of [`Row`]. `?1` is the clock and `?2` the largest payload that is loaded; a payload that is larger, or whose row waits, stays in the
/// database.
pub(super) const COLUMNS: &str = "m.seq, CAST(m.id AS BLOB), CAST(m.aggregate_type AS BLOB), \
     CAST(m.aggregate_id AS BLOB), CAST(m.event_type AS BLOB), CAST(m.content_type AS BLOB), \
     CAST(m.headers AS BLOB), CAST(m.occurred_at AS INTEGER), typeof(m.occurred_at) = 'integer', \
     CAST(m.attempts AS INTEGER), m.wake_at IS NOT NULL AND m.wake_at > ?1, \
     CASE typeof(m.payload) WHEN 'blob' THEN length(m.payload) ELSE length(CAST(m.payload AS BLOB)) END, \
     CASE WHEN (m.wake_at IS NULL OR m.wake_at <= ?1) AND \
     CASE typeof(m.payload) WHEN 'blob' THEN length(m.payload) ELSE length(CAST(m.payload AS BLOB)) END <= ?2 \
     THEN CAST(m.payload AS BLOB) END";

/// The SQL types of [`COLUMNS`].
pub(super) type RowType = (
    BigInt,
    Binary,
    Binary,
    Nullable<Binary>,
    Binary,
    Binary,
    Binary,
    BigInt,
    Bool,
    BigInt,
    Bool,
    BigInt,
    Nullable<Binary>,
);

/// A row as it is.
#[derive(diesel::Queryable)]
pub(super) struct Row {
    pub(super) seq: i64,
    id: Vec<u8>,
    aggregate_type: Vec<u8>,
    aggregate_id: Option<Vec<u8>>,
    event_type: Vec<u8>,
    content_type: Vec<u8>,
    headers: Vec<u8>,
    occurred_at: i64,
    occurred_at_is_integer: bool,
    attempts: i64,
    waits: bool,
    payload_bytes: i64,
    payload: Option<Vec<u8>>,
}

/// What a row is to the relay.
pub(super) enum Found {
    Message(Box<Message>),
    Held(HeldHead),
    Refused(Refused),
    /// A scheduled message, or a failed one without a key: nothing waits for it.
    Waits,
}

impl Row {
    /// Bytes that count against the budget: those that were loaded.
    pub(super) fn loaded_bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn classify(self, limits: &ReadLimits) -> Found {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let aggregate_type = text(&self.aggregate_type);
        let aggregate_id = self.aggregate_id.as_deref().map(text);
        let lane = match (&aggregate_type, &aggregate_id) {
            (Some(kind), Some(Some(id))) => Some(LaneKey::of(kind, id)),
            _ => None,
        };
        // settling matches the text, so that an id in another form would stay and be delivered for ever
        let id = text(&self.id)
            .and_then(|text| Uuid::parse_str(&text).ok().filter(|id| *id.as_hyphenated().to_string() == *text));
        let position = Position { shard: ShardId(0), seq: self.seq, id: id.unwrap_or_default() };
        if self.waits {
            return match lane {
                Some(lane) if self.attempts > 0 => Found::Held(HeldHead { position, lane }),
                _ => Found::Waits,
            };
        }
        if usize::try_from(self.payload_bytes).unwrap_or(0) > limits.max_message_bytes {
            return Found::Refused(Refused { position, lane, reason: DeadReason::TooLarge });
        }
        let refused = Found::Refused(Refused { position, lane, reason: DeadReason::Undecodable });
        let (Some(id), Some(aggregate_type), Some(event_type), Some(content_type), Some(headers), Some(occurred_at)) = (
            id,
            aggregate_type,
            text(&self.event_type),
            text(&self.content_type),
            headers(self.headers),
            self.occurred_at_is_integer.then(|| time_of(self.occurred_at)).flatten(),
        ) else {
            return refused;
        };
        let aggregate_id = match aggregate_id {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return refused,
        };
        Found::Message(Box::new(Message {
            id,
            shard: ShardId(0),
            seq: self.seq,
            aggregate_type,
            aggregate_id,
            event_type,
            payload: Payload::from(self.payload.unwrap_or_default()),
            content_type,
            headers,
            occurred_at,
            attempts: u32::try_from(self.attempts).unwrap_or(0),
        }))
    }
}

/// The headers, when they are a JSON object. `{}` is not parsed.
fn headers(json: Vec<u8>) -> Option<Headers> {
    if json == b"{}" {
        return Some(Headers::default());
    }
    let text = String::from_utf8(json).ok()?;
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).ok()?;
    Some(if object.is_empty() { Headers::default() } else { Headers::from_json(text) })
}

/// A time within the years 1 to 9999.
fn time_of(micros: i64) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok()?;
    (1..=9999).contains(&time.year()).then_some(time)
}
