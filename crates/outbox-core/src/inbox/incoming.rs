use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use time::OffsetDateTime;

use crate::message::Payload;

/// A message as it came from a broker: nothing of it is interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Where it came from.
    pub partition: Partition,
    /// Its place there (a Kafka offset, an AMQP delivery tag). Grows strictly within an assignment of the partition.
    pub position: i64,
    /// The record key. `None`: it has none.
    pub key: Option<Payload>,
    /// Its headers, in their order.
    pub headers: IncomingHeaders,
    /// Its bytes. `None`: Kafka's null value (a tombstone), which is not the same as no bytes.
    pub payload: Option<Payload>,
    /// When the broker, or the producer for it, stamped the message. `None`: nobody did.
    pub timestamp: Option<OffsetDateTime>,
    /// Whether the broker says that it was delivered before. Kafka never says so.
    pub redelivered: bool,
}

impl Incoming {
    /// Bytes in memory, approximately: what the budgets count.
    pub fn size_bytes(&self) -> usize {
        let length = |bytes: &Option<Payload>| bytes.as_ref().map_or(0, |bytes| bytes.0.len());
        length(&self.key) + length(&self.payload) + self.headers.size_bytes()
    }
}

/// A partition of a topic, or a queue: within it a source keeps the order of messages. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic or queue. At most 255 bytes.
    pub stream: Arc<str>,
    /// The number within the topic; 0 for a queue.
    pub number: i32,
}

impl Partition {
    /// A partition of a stream.
    pub fn new(stream: impl Into<Arc<str>>, number: i32) -> Self {
        Self { stream: stream.into(), number }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.stream, self.number)
    }
}

/// Headers as they came: names with bytes, a name maybe more than once. `Debug` shows the names only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct IncomingHeaders(Vec<(String, Bytes)>);

impl IncomingHeaders {
    /// Headers in their order. A value that is null in the broker's format is empty here.
    pub fn new(headers: Vec<(String, Bytes)>) -> Self {
        Self(headers)
    }

    /// Adds a header.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// The last header of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    /// All headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// Bytes of all names and values.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// As JSON text for a row: an array of `[name, text]`, or `[name, {"hex": "…"}]` for bytes that are no UTF-8. Nothing is lost
    /// ([`from_json`](Self::from_json)), and no NUL is in it.
    pub fn to_json(&self) -> String {
        let headers = self.0.iter().map(|(name, value)| {
            let value = match std::str::from_utf8(value) {
                Ok(text) => Value::from(text),
                Err(_) => serde_json::json!({ "hex": hex(value) }),
            };
            Value::from(vec![Value::from(name.as_str()), value])
        });
        Value::from(headers.collect::<Vec<_>>()).to_string()
    }

    /// Headers from the text of a row. What is not of the form of [`to_json`](Self::to_json) reads as no headers.
    pub fn from_json(text: &str) -> Self {
        let Ok(headers) = serde_json::from_str::<Vec<(String, Value)>>(text) else { return Self::default() };
        let headers = headers.into_iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, Bytes::from(text))),
            Value::Object(object) => Some((name, unhex(object.get("hex")?.as_str()?)?)),
            _ => None,
        });
        Self(headers.collect())
    }
}

impl std::fmt::Debug for IncomingHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_row_whatever_they_hold() {
        let mut headers = IncomingHeaders::default();
        for (name, value) in [
            ("a", &b"1"[..]),
            ("a", b"2"),
            ("", b""),
            ("nul", b"\0x"),
            ("quote\"", "ключ".as_bytes()),
            ("raw", b"\xff\x00\x0f"),
        ] {
            headers.push(name, value.to_vec());
        }
        let json = headers.to_json();
        assert!(!json.contains('\0'));
        assert_eq!(IncomingHeaders::from_json(&json), headers);
        assert_eq!(headers.get("a"), Some(&b"2"[..]));
    }

    #[test]
    fn a_text_of_another_form_reads_as_no_headers() {
        assert_eq!(IncomingHeaders::from_json("{\"a\":1}"), IncomingHeaders::default());
    }

    #[test]
    fn debug_shows_no_values() {
        let mut headers = IncomingHeaders::default();
        headers.push("authorization", "secret");
        assert_eq!(format!("{headers:?}"), "{\"authorization\"}");
    }
}
