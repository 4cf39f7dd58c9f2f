use time::UtcOffset;
use time::format_description::well_known::Rfc3339;

use super::Message;

/// A message as a CloudEvent 1.0 of one source: what the encoders of all transports share.
///
/// Source: CloudEvents specification 1.0.2, and its JSON event format.
#[derive(Debug, Clone, Copy)]
pub struct CloudEvent<'m> {
    message: &'m Message,
    source: &'m str,
}

/// Text of an attribute that is written without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct Inline {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl<'m> CloudEvent<'m> {
    /// The media type of [`to_json`](Self::to_json).
    pub const JSON: &'static str = "application/cloudevents+json";

    /// A message as an event of `source`, a URI reference. Consumers deduplicate on (source, id).
    pub fn new(message: &'m Message, source: &'m str) -> Self {
        Self { message, source }
    }

    /// The attribute `id`.
    pub fn id(&self) -> Inline {
        let mut text = Inline { bytes: [0; Inline::CAPACITY], length: 36 };
        self.message.id.as_hyphenated().encode_lower(&mut text.bytes);
        text
    }

    /// The attribute `time`: RFC 3339 in UTC. `None` for a year outside of 0 to 9999, which the storages refuse.
    pub fn time(&self) -> Option<Inline> {
        let mut text = Inline { bytes: [0; Inline::CAPACITY], length: 0 };
        let mut rest = &mut text.bytes[..];
        self.message.occurred_at.to_offset(UtcOffset::UTC).format_into(&mut rest, &Rfc3339).ok()?;
        text.length = Inline::CAPACITY - rest.len();
        Some(text)
    }

    /// The attribute `sequence`: the message's [`seq`](Message::seq), padded so that texts compare as numbers do. Within a key it grows from
    /// message to message, with gaps. `None` for a number below zero, which no storage gives.
    pub fn sequence(&self) -> Option<Inline> {
        use std::io::Write as _;
        let mut text = Inline { bytes: [0; Inline::CAPACITY], length: 0 };
        let mut rest = &mut text.bytes[..];
        write!(rest, "{:019}", u64::try_from(self.message.seq).ok()?).ok()?;
        text.length = Inline::CAPACITY - rest.len();
        Some(text)
    }

    /// The event with its payload in one JSON text (structured mode). The payload is the member `data` when it is JSON and says so, and
    /// `data_base64` otherwise. The message's own headers are no part of it.
    pub fn to_json(&self) -> Vec<u8> {
        let Message { event_type, aggregate_id, content_type, payload, .. } = self.message;
        let mut json = Vec::with_capacity(payload.as_ref().len() + 512);
        json.push(b'{');
        push_member(&mut json, "specversion", "1.0");
        push_member(&mut json, "id", self.id().as_str());
        push_member(&mut json, "source", self.source);
        push_member(&mut json, "type", event_type);
        if let Some(time) = self.time() {
            push_member(&mut json, "time", time.as_str());
        }
        if let Some(subject) = aggregate_id {
            push_member(&mut json, "subject", subject);
        }
        push_member(&mut json, "datacontenttype", content_type);
        let is_json =
            says_json(content_type) && serde_json::from_slice::<serde::de::IgnoredAny>(payload.as_ref()).is_ok();
        if is_json {
            json.extend_from_slice(b",\"data\":");
            json.extend_from_slice(payload.as_ref());
        } else {
            json.extend_from_slice(b",\"data_base64\":\"");
            push_base64(&mut json, payload.as_ref());
            json.push(b'"');
        }
        json.push(b'}');
        json
    }
}

impl Inline {
    const CAPACITY: usize = 40;

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Inline {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn says_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

fn push_member(json: &mut Vec<u8>, name: &str, value: &str) {
    if json.len() > 1 {
        json.push(b',');
    }
    // a text always has a JSON form
    for (text, end) in [(name, ":"), (value, "")] {
        json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        json.extend_from_slice(end.as_bytes());
    }
}

/// Source: RFC 4648, section 4.
fn push_base64(into: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().enumerate().fold(0u32, |group, (place, byte)| group | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            into.push(if place > chunk.len() { b'=' } else { digit });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::{Date, Month, OffsetDateTime, Time};

    use super::*;
    use crate::message::{Headers, NewMessage, Payload};
    use crate::ports::ShardId;

    fn message(content_type: &str, payload: &[u8]) -> Message {
        let new = NewMessage::new("order", "order.\"placed\"", payload.to_vec());
        Message {
            id: new.id,
            shard: ShardId(0),
            seq: 1,
            aggregate_type: new.aggregate_type,
            aggregate_id: Some("7".to_owned()),
            event_type: new.event_type,
            payload: Payload::from(payload.to_vec()),
            content_type: content_type.to_owned(),
            headers: Headers::default(),
            occurred_at: OffsetDateTime::new_utc(
                Date::from_calendar_date(2026, Month::November, 21).unwrap(),
                Time::from_hms_milli(10, 20, 30, 500).unwrap(),
            ),
            attempts: 0,
        }
    }

    fn structured(message: &Message) -> Value {
        serde_json::from_slice(&CloudEvent::new(message, "/shop").to_json()).unwrap()
    }

    #[test]
    fn a_structured_event_holds_its_attributes_and_its_json_payload() {
        let message = message("application/vnd.shop+json; charset=utf-8", br#"{"total_cents":1250}"#);
        let expected = json!({
            "specversion": "1.0", "id": message.id.to_string(), "source": "/shop", "type": "order.\"placed\"",
            "time": "2026-11-21T10:20:30.5Z", "subject": "7",
            "datacontenttype": "application/vnd.shop+json; charset=utf-8", "data": {"total_cents": 1250},
        });
        assert_eq!(structured(&message), expected);
    }

    #[test]
    fn a_sequence_compares_as_text_as_its_number_does() {
        let of = |seq| {
            let message = Message { seq, ..message("text/plain", b"") };
            CloudEvent::new(&message, "/shop").sequence().map(|text| text.as_str().to_owned())
        };
        assert_eq!(of(17).as_deref(), Some("0000000000000000017"));
        assert!(of(9) < of(10) && of(10) < of(i64::MAX));
        assert_eq!(of(-1), None);
    }

    #[test]
    fn a_payload_that_is_no_json_travels_as_base64() {
        for (content_type, payload, base64) in [
            ("application/json", &b"{"[..], "ew=="),
            ("application/octet-stream", b"12", "MTI="),
            ("text/plain", b"abc", "YWJj"),
            ("text/plain", b"", ""),
            ("image/png", &[0xfb, 0xff, 0xfe, 0x00], "+//+AA=="),
        ] {
            assert_eq!(structured(&message(content_type, payload))["data_base64"], base64);
        }
    }
}
