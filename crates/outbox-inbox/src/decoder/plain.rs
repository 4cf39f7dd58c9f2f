use outbox_core::inbox::Incoming;

use super::{Decoder, Envelope, InvalidEnvelope, content_type, header_where, own_sequence, record_key};

/// Messages without an envelope: identity and type in headers of configurable names, compared without regard to case.
///
/// | what | headers, the first that is there | otherwise |
/// |---|---|---|
/// | id | `id`, `message-id`, `message_id` | none: derived by the user's function, or a dead letter |
/// | source | `source` | [`with_source`](Self::with_source), or the stream's name |
/// | type | `type`, `event_type`, `event-type`, `eventType` | the stream's name |
///
/// The ordering key is the record's key, the sequence what [`NewMessage::sequence`](outbox_core::NewMessage::sequence) has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    id: Vec<String>,
    source: Vec<String>,
    event_type: Vec<String>,
    fixed_source: Option<String>,
}

impl Default for Plain {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            id: names(&["id", "message-id", "message_id"]),
            source: names(&["source"]),
            event_type: names(&["type", "event_type", "event-type", "eventType"]),
            fixed_source: None,
        }
    }
}

impl Plain {
    /// Reads the id from this header.
    pub fn with_id_header(self, name: impl Into<String>) -> Self {
        Self { id: vec![name.into()], ..self }
    }

    /// Reads the source from this header.
    pub fn with_source_header(self, name: impl Into<String>) -> Self {
        Self { source: vec![name.into()], ..self }
    }

    /// Reads the type from this header.
    pub fn with_type_header(self, name: impl Into<String>) -> Self {
        Self { event_type: vec![name.into()], ..self }
    }

    /// The source of messages that name none, instead of their stream. Ids must be unique within it.
    pub fn with_source(self, source: impl Into<String>) -> Self {
        Self { fixed_source: Some(source.into()), ..self }
    }
}

impl Decoder for Plain {
    fn decode(&self, incoming: &Incoming) -> Result<Envelope, InvalidEnvelope> {
        let stream = || incoming.partition.stream.to_string();
        let source = first(incoming, &self.source)?.or_else(|| self.fixed_source.clone());
        Ok(Envelope {
            source: Some(source.unwrap_or_else(stream)),
            id: first(incoming, &self.id)?,
            event_type: first(incoming, &self.event_type)?.unwrap_or_else(stream),
            key: record_key(incoming),
            content_type: content_type(incoming)?,
            payload: incoming.payload.clone().unwrap_or_default(),
            time: None,
            subject: None,
            sequence: own_sequence(incoming),
        })
    }
}

fn first(incoming: &Incoming, names: &[String]) -> Result<Option<String>, InvalidEnvelope> {
    for name in names {
        if let Some(text) = header_where(incoming, |other| other.eq_ignore_ascii_case(name))? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use outbox_core::inbox::{IncomingHeaders, Partition};

    use super::*;

    fn incoming(headers: &[(&str, &[u8])]) -> Incoming {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec().into())).collect();
        Incoming {
            partition: Partition::new("order", 0),
            position: 0,
            key: Some(b"7".to_vec().into()),
            headers: IncomingHeaders::new(headers),
            payload: None,
            timestamp: None,
            redelivered: false,
        }
    }

    #[test]
    fn the_relay_s_own_plain_records_are_read() {
        let read = Plain::default().decode(&incoming(&[("id", b"1"), ("traceparent", b"00")])).unwrap();
        assert_eq!((read.id.as_deref(), read.source.as_deref()), (Some("1"), Some("order")));
        assert_eq!((read.event_type.as_str(), read.key.as_deref()), ("order", Some(&b"7"[..])));
    }

    #[test]
    fn header_names_can_be_chosen() {
        let decoder = Plain::default().with_id_header("X-Id").with_type_header("kind").with_source("/shop");
        let read = decoder.decode(&incoming(&[("id", b"no"), ("x-id", b"1"), ("kind", b"placed")])).unwrap();
        assert_eq!((read.id.as_deref(), read.source.as_deref()), (Some("1"), Some("/shop")));
        assert_eq!(read.event_type, "placed");
    }

    #[test]
    fn a_missing_id_is_not_guessed_and_bytes_are_no_id() {
        assert_eq!(Plain::default().decode(&incoming(&[])).unwrap().id, None);
        assert!(Plain::default().decode(&incoming(&[("id", b"\xff")])).is_err());
    }
}
