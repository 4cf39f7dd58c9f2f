//! How a message is read: its identity, its type, its key, its payload.

mod base64;
mod cloud_events;
mod plain;
mod structured;

pub use cloud_events::CloudEvents;
pub use plain::Plain;

use outbox_core::inbox::Incoming;
use outbox_core::message::{Payload, Sequence};
use time::OffsetDateTime;

/// Reads the envelope of a message. Pure: the same message always reads the same.
pub trait Decoder: Send + Sync + 'static {
    /// Reads an envelope. An id or a source that is not there is `None`: the inbox asks the user's function, and nobody guesses.
    ///
    /// # Errors
    ///
    /// [`InvalidEnvelope`]: the message becomes a dead letter `undecodable`.
    fn decode(&self, incoming: &Incoming) -> Result<Envelope, InvalidEnvelope>;
}

/// What a [`Decoder`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who produced it.
    pub source: Option<String>,
    /// Which message of the source.
    pub id: Option<String>,
    /// What happened.
    pub event_type: String,
    /// What orders it within its stream. `None`: no order is wanted.
    pub key: Option<Vec<u8>>,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The event's own bytes.
    pub payload: Payload,
    /// When it happened.
    pub time: Option<OffsetDateTime>,
    /// The CloudEvents `subject`.
    pub subject: Option<String>,
    /// Which message of its key it is, when its producer says so.
    pub sequence: Option<Sequence>,
}

/// Why an envelope cannot be read; no payload, no header values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEnvelope(pub String);

/// CloudEvents where a message is one, in binary or structured mode, and [`Plain`] otherwise. The default.
#[derive(Debug, Clone, Default)]
pub struct Standard {
    plain: Plain,
}

impl Standard {
    /// With other header names for messages that are no CloudEvents.
    pub fn with_plain(plain: Plain) -> Self {
        Self { plain }
    }
}

impl Decoder for Standard {
    fn decode(&self, incoming: &Incoming) -> Result<Envelope, InvalidEnvelope> {
        if cloud_events::is_cloud_event(incoming) { CloudEvents.decode(incoming) } else { self.plain.decode(incoming) }
    }
}

/// The text of the last header whose name satisfies `is`, compared without regard to case by the caller.
fn header_where(incoming: &Incoming, is: impl Fn(&str) -> bool) -> Result<Option<String>, InvalidEnvelope> {
    let found = incoming.headers.iter().filter(|(name, _)| is(name)).last();
    let Some((name, value)) = found else { return Ok(None) };
    let text = std::str::from_utf8(value);
    let text =
        text.map_err(|_| InvalidEnvelope(format!("header {name:?} is not UTF-8: its producer must send text")))?;
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// The sequence that the writer gave a message of the relay's.
fn own_sequence(incoming: &Incoming) -> Option<Sequence> {
    Sequence::from_header(std::str::from_utf8(incoming.headers.get(Sequence::HEADER)?).ok()?)
}

fn content_type(incoming: &Incoming) -> Result<Option<String>, InvalidEnvelope> {
    header_where(incoming, |name| ["content-type", "content_type"].iter().any(|other| name.eq_ignore_ascii_case(other)))
}

fn record_key(incoming: &Incoming) -> Option<Vec<u8>> {
    incoming.key.as_ref().map(|key| key.as_ref().to_vec()).filter(|key| !key.is_empty())
}
