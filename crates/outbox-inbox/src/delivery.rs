use outbox_core::inbox::{Identity, Incoming, OrderingKey};
use outbox_core::message::{Payload, Sequence};
use time::OffsetDateTime;

/// A message as a handler gets it. `Debug` shows no payload and no header values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which message: what the inbox deduplicates on.
    pub identity: Identity,
    /// What happened; what handlers are registered for.
    pub event_type: String,
    /// What orders it. `None`: no order is wanted.
    pub key: Option<OrderingKey>,
    /// Media type of the payload, when the message names one.
    pub content_type: Option<String>,
    /// The event's own bytes: those of the message, or the `data` of a structured CloudEvent.
    pub payload: Payload,
    /// When it happened, as its producer says.
    pub time: Option<OffsetDateTime>,
    /// The CloudEvents `subject`.
    pub subject: Option<String>,
    /// Which message of its key it is, when its producer says so.
    pub sequence: Option<Sequence>,
    /// Failed attempts before this one.
    pub attempts: u32,
    /// The message as it came: partition, position, headers.
    pub incoming: Incoming,
}

impl Delivery {
    /// A header's text: its last value of this name, when it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.incoming.headers.get(name)?).ok()
    }

    /// The older of what the producer and the broker say: what retention is judged by.
    pub(crate) fn oldest_time(&self) -> Option<OffsetDateTime> {
        self.time.into_iter().chain(self.incoming.timestamp).min()
    }
}
