use outbox_core::Message;
use outbox_core::message::{CloudEvent, Sequence};

use crate::RecordHeaders;

/// How a message becomes a record: which headers it carries. The value is always the payload as it is, the key the `aggregate_id`.
pub trait Encoder: Send + Sync + 'static {
    /// Writes the headers of `message`. Called once for each record; must not block.
    fn encode(&self, message: &Message, headers: &mut RecordHeaders);
}

/// CloudEvents 1.0 in binary mode: the attributes as headers, the payload untouched. The default.
///
/// | header | value |
/// |---|---|
/// | `ce_specversion` | `1.0` |
/// | `ce_id` | the message's id |
/// | `ce_source` | what [`source`](crate::KafkaTransportBuilder::source) says |
/// | `ce_type` | `event_type` |
/// | `ce_time` | `occurred_at`, RFC 3339 in UTC |
/// | `ce_subject` | `aggregate_id`, when there is one |
/// | `content-type` | `content_type` |
/// | `ce_sequence`, `ce_sequencetype` | what [`NewMessage::sequence`](outbox_core::NewMessage::sequence) says and `Integer`; or see [`with_sequence`](Self::with_sequence) |
/// | the message's own | as they are; names that start with `ce_`, and `content-type`, are left out |
///
/// Source: CloudEvents Kafka protocol binding 1.0.2, section 3.2.
#[derive(Debug, Clone)]
pub struct CloudEvents {
    source: String,
    stamps_sequence: bool,
}

impl CloudEvents {
    /// CloudEvents of one source: a URI reference that names the service. Consumers deduplicate on (source, id).
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), stamps_sequence: false }
    }

    /// Stamps each message that has no sequence of its own with its place in the outbox, as `ce_sequence`. The numbers of a key grow, with gaps: a consumer
    /// can tell a stale message by them, and not a missing one.
    pub fn with_sequence(self) -> Self {
        Self { stamps_sequence: true, ..self }
    }
}

impl Encoder for CloudEvents {
    fn encode(&self, message: &Message, headers: &mut RecordHeaders) {
        let event = CloudEvent::new(message, &self.source);
        headers.push("ce_specversion", "1.0");
        headers.push("ce_id", event.id());
        headers.push("ce_source", &self.source);
        headers.push("ce_type", &message.event_type);
        if let Some(time) = event.time() {
            headers.push("ce_time", time);
        }
        if let Some(subject) = &message.aggregate_id {
            headers.push("ce_subject", subject);
        }
        headers.push("content-type", &message.content_type);
        let mut own_sequence = None;
        push_own(message, headers, |name, value| {
            if name == Sequence::HEADER {
                own_sequence = Some(value.to_owned());
                return true;
            }
            name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ce_"))
                || name.eq_ignore_ascii_case("content-type")
        });
        if let Some(sequence) = own_sequence {
            headers.push("ce_sequence", &sequence);
            headers.push("ce_sequencetype", Sequence::CONTIGUOUS);
        } else if let Some(sequence) = event.sequence().filter(|_| self.stamps_sequence) {
            headers.push("ce_sequence", sequence);
        }
    }
}

/// No envelope: the header `id` with the message's id, which consumers deduplicate on, and the message's own headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Encoder for Plain {
    fn encode(&self, message: &Message, headers: &mut RecordHeaders) {
        headers.push("id", message.id.as_hyphenated().encode_lower(&mut [0; 36]));
        push_own(message, headers, |name, _| name == "id");
    }
}

fn push_own(message: &Message, headers: &mut RecordHeaders, mut is_reserved: impl FnMut(&str, &str) -> bool) {
    if message.headers.is_empty() {
        return;
    }
    for (name, value) in message.headers.to_map() {
        if !is_reserved(&name, &value) {
            headers.push(&name, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use outbox_core::Headers;
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::fixtures::message;

    fn headers_of(encoder: &impl Encoder, message: &Message) -> BTreeMap<String, String> {
        let mut headers = RecordHeaders::with_capacity(8);
        encoder.encode(message, &mut headers);
        let native = headers.into_native();
        let all: Vec<_> = native.as_borrowed().iter().collect();
        let map: BTreeMap<_, _> = all
            .iter()
            .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
            .collect();
        assert_eq!(map.len(), all.len(), "a header was written twice");
        map
    }

    #[test]
    fn a_cloud_event_carries_its_attributes_as_headers() {
        let message = message("order", Some("7"));
        let headers = headers_of(&CloudEvents::new("/shop"), &message);
        assert_eq!(headers["ce_specversion"], "1.0");
        assert_eq!(headers["ce_id"], message.id.to_string());
        assert_eq!(headers["ce_source"], "/shop");
        assert_eq!(headers["ce_type"], "order.placed");
        assert_eq!(headers["ce_time"], "2026-11-21T10:20:30.5Z");
        assert_eq!(headers["ce_subject"], "7");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers.len(), 7);
    }

    #[test]
    fn a_message_without_a_key_has_no_subject() {
        assert!(!headers_of(&CloudEvents::new("/shop"), &message("order", None)).contains_key("ce_subject"));
    }

    #[test]
    fn own_headers_travel_but_cannot_replace_the_attributes() {
        let mut message = message("order", Some("7"));
        message.headers = Headers::from_json(r#"{"traceparent":"00-a","CE_id":"x","Content-Type":"y","n":1}"#);
        let headers = headers_of(&CloudEvents::new("/shop"), &message);
        assert_eq!(headers["traceparent"], "00-a");
        assert_eq!(headers["n"], "1");
        assert_eq!(headers["ce_id"], message.id.to_string());
        assert_eq!(headers.len(), 9);
    }

    #[test]
    fn a_sequence_is_stamped_when_wanted_and_that_of_the_writer_goes_first() {
        let mut message = message("order", Some("7"));
        message.seq = 17;
        assert!(!headers_of(&CloudEvents::new("/shop"), &message).contains_key("ce_sequence"));
        let encoder = CloudEvents::new("/shop").with_sequence();
        let headers = headers_of(&encoder, &message);
        assert_eq!(headers["ce_sequence"], "0000000000000000017");
        assert!(!headers.contains_key("ce_sequencetype"));
        message.headers = Headers::from_json(r#"{"outboxsequence":"0000000003"}"#);
        let headers = headers_of(&encoder, &message);
        assert_eq!((&*headers["ce_sequence"], &*headers["ce_sequencetype"]), ("0000000003", "Integer"));
        assert_eq!(headers.len(), 9);
    }

    #[test]
    fn a_plain_record_carries_its_id_and_its_own_headers() {
        let mut message = message("order", Some("7"));
        message.headers = Headers::from_json(r#"{"a":"b","id":"x"}"#);
        let headers = headers_of(&Plain, &message);
        let expected = [("a", "b".to_owned()), ("id", message.id.to_string())];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
