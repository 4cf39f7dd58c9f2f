use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{DEFAULT_CONTENT_TYPE, InvalidMessage, Payload, Sequence};
use crate::Event;

/// A message that a service appends in its own transaction.
///
/// ```
/// use outbox_core::NewMessage;
///
/// let message = NewMessage::new("order", "order.placed", br#"{"total_cents":1250}"#.to_vec())
///     .aggregate_id("7")
///     .header("correlation-id", "c-1");
/// assert!(outbox_core::Limits::default().check(&message).is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Identity; a fresh UUID v7 unless set.
    pub id: Uuid,
    /// What changed; routes to a topic.
    pub aggregate_type: String,
    /// Which one; the ordering key. `None`: no order is wanted.
    pub aggregate_id: Option<String>,
    /// What happened.
    pub event_type: String,
    /// Opaque bytes.
    pub payload: Payload,
    /// Media type of the payload.
    pub content_type: String,
    /// Text by name.
    pub headers: BTreeMap<String, String>,
    /// Domain time; the database's clock at the insert unless set.
    pub occurred_at: Option<OffsetDateTime>,
    /// Deliver not before. A message that is not yet available when the relay first passes it leaves the order of its key: later messages
    /// of the key do not wait for it.
    pub available_at: Option<OffsetDateTime>,
}

impl NewMessage {
    /// A message with a fresh id, no ordering key, no headers and JSON as its content type.
    pub fn new(aggregate_type: impl Into<String>, event_type: impl Into<String>, payload: impl Into<Payload>) -> Self {
        Self {
            id: Uuid::now_v7(),
            aggregate_type: aggregate_type.into(),
            aggregate_id: None,
            event_type: event_type.into(),
            payload: payload.into(),
            content_type: DEFAULT_CONTENT_TYPE.to_owned(),
            headers: BTreeMap::new(),
            occurred_at: None,
            available_at: None,
        }
    }

    /// The message of a typed event: its payload is the event as JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage::Payload`] when the event cannot be serialized. The limits are checked when it is appended.
    pub fn of<E: Event + ?Sized>(event: &E) -> Result<Self, InvalidMessage> {
        let payload = serde_json::to_vec(event)
            .map_err(|error| InvalidMessage::Payload { reason: format!("{:?}", error.classify()) })?;
        let mut message = Self::new(E::AGGREGATE_TYPE, E::EVENT_TYPE, payload);
        message.aggregate_id = event.aggregate_id();
        Ok(message)
    }

    /// Sets the identity. Two messages with one id are one message to every consumer.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Sets the ordering key.
    pub fn aggregate_id(mut self, aggregate_id: impl Into<String>) -> Self {
        self.aggregate_id = Some(aggregate_id.into());
        self
    }

    /// Sets the media type of the payload.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Says which message of its key this is: 1, 2, 3, …, without gaps. An inbox that looks at these numbers tells when one is missing, which only
    /// their writer can make possible: a natural number is the version of the aggregate, which its transaction has locked anyway. A
    /// CloudEvents consumer finds it in the attributes `sequence` and `sequencetype`, which is why it has to fit 31 bits.
    pub fn sequence(self, number: u32) -> Self {
        self.header(Sequence::HEADER, format!("{number:010}"))
    }

    /// Sets the domain time.
    pub fn occurred_at(mut self, time: OffsetDateTime) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// Delivers the message not before this time (by the database's clock).
    pub fn available_at(mut self, time: OffsetDateTime) -> Self {
        self.available_at = Some(time);
        self
    }
}
