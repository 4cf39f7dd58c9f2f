use outbox_core::Message;
use outbox_core::message::{CloudEvent, Sequence};

use crate::Publication;

/// How a message becomes a publication: its headers and its body.
///
/// The other properties (`message_id`, `type`, `timestamp`, `priority`, …) are the transport's, whatever the encoder.
pub trait Encoder: Send + Sync + 'static {
    /// Writes `message` into `publication`, which already has the payload as its body and the message's content type. Called once for each hand-over; must
    /// not block.
    fn encode(&self, message: &Message, publication: &mut Publication);
}

/// CloudEvents 1.0 in binary mode: the attributes as headers, the payload untouched. The default.
///
/// | header | value |
/// |---|---|
/// | `cloudEvents_specversion` | `1.0` |
/// | `cloudEvents_id` | the message's id |
/// | `cloudEvents_source` | what [`source`](crate::AmqpTransportBuilder::source) says |
/// | `cloudEvents_type` | `event_type` |
/// | `cloudEvents_time` | `occurred_at`, RFC 3339 in UTC |
/// | `cloudEvents_subject` | `aggregate_id`, when there is one |
/// | `cloudEvents_sequence`, `cloudEvents_sequencetype` | what [`NewMessage::sequence`](outbox_core::NewMessage::sequence) says and `Integer`; or see [`with_sequence`](Self::with_sequence) |
/// | the message's own | as they are; names that start with `cloudEvents_` or `cloudEvents:` are left out |
///
/// `datacontenttype` is the property `content_type`.
///
/// Source: CloudEvents AMQP protocol binding 1.0.2, section 3.1. It is written for the application properties of AMQP 1.0, which is what RabbitMQ turns the header
/// table of AMQP 0-9-1 into; of its two prefixes `cloudEvents_` is the one that it recommends.
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

    /// Stamps each message that has no sequence of its own with its place in the outbox, as `cloudEvents_sequence`. The numbers of a key grow, with gaps: a
    /// consumer can tell a stale message by them, and not a missing one.
    pub fn with_sequence(self) -> Self {
        Self { stamps_sequence: true, ..self }
    }
}

impl Encoder for CloudEvents {
    fn encode(&self, message: &Message, publication: &mut Publication) {
        let event = CloudEvent::new(message, &self.source);
        publication.header("cloudEvents_specversion", "1.0");
        publication.header("cloudEvents_id", event.id().as_str());
        publication.header("cloudEvents_source", &*self.source);
        publication.header("cloudEvents_type", &*message.event_type);
        if let Some(time) = event.time() {
            publication.header("cloudEvents_time", time.as_str());
        }
        if let Some(subject) = &message.aggregate_id {
            publication.header("cloudEvents_subject", &**subject);
        }
        if let Some(sequence) = publication.take_own_header(Sequence::HEADER) {
            publication.header("cloudEvents_sequence", sequence);
            publication.header("cloudEvents_sequencetype", Sequence::CONTIGUOUS);
        } else if let Some(sequence) = event.sequence().filter(|_| self.stamps_sequence) {
            publication.header("cloudEvents_sequence", sequence.as_str());
        }
        publication.own_headers(|name| {
            let start = name.get(..12).unwrap_or_default();
            start.eq_ignore_ascii_case("cloudEvents_") || start.eq_ignore_ascii_case("cloudEvents:")
        });
    }
}

/// CloudEvents 1.0 in structured mode: one JSON text of the attributes and the payload, with the content type `application/cloudevents+json`. The message's own headers
/// are headers.
#[derive(Debug, Clone)]
pub struct StructuredCloudEvents {
    source: String,
}

impl StructuredCloudEvents {
    /// CloudEvents of one source: a URI reference that names the service. Consumers deduplicate on (source, id).
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into() }
    }
}

impl Encoder for StructuredCloudEvents {
    fn encode(&self, message: &Message, publication: &mut Publication) {
        publication.body(CloudEvent::new(message, &self.source).to_json());
        publication.content_type(CloudEvent::JSON);
        publication.own_headers(|_| false);
    }
}

/// No envelope: the message's own headers, the payload, and the property `message_id`, which consumers deduplicate on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Encoder for Plain {
    fn encode(&self, _: &Message, publication: &mut Publication) {
        publication.own_headers(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::Headers;

    use super::*;
    use crate::fixtures::message;
    use crate::publication::{Defaults, Limits, Prepared};

    fn prepared(encoder: &impl Encoder, message: &Message) -> Prepared {
        Publication::prepare(message, encoder, &Defaults::default(), &Limits::for_tests())
            .unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn headers_of(encoder: &impl Encoder, message: &Message) -> Vec<(String, String)> {
        let prepared = prepared(encoder, message);
        let headers = prepared.properties.headers().clone().unwrap_or_default();
        let text = |value: &lapin::types::AMQPValue| value.as_long_string().unwrap().to_string();
        headers.inner().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_cloud_event_carries_its_attributes_as_headers() {
        let message = message("order", Some("7"));
        let expected = pairs(&[
            ("cloudEvents_id", &message.id.to_string()),
            ("cloudEvents_source", "/shop"),
            ("cloudEvents_specversion", "1.0"),
            ("cloudEvents_subject", "7"),
            ("cloudEvents_time", "2026-11-21T10:20:30.5Z"),
            ("cloudEvents_type", "order.placed"),
        ]);
        assert_eq!(headers_of(&CloudEvents::new("/shop"), &message), expected);
        let prepared = prepared(&CloudEvents::new("/shop"), &message);
        assert_eq!(prepared.properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(&prepared.body[..], b"{}");
    }

    #[test]
    fn own_headers_travel_but_cannot_replace_the_attributes() {
        let mut message = message("order", None);
        message.headers =
            Headers::from_json(r#"{"traceparent":"00-a","cloudevents_ID":"x","cloudEvents:id":"y","n":1}"#);
        let headers = headers_of(&CloudEvents::new("/shop"), &message);
        assert!(headers.contains(&("traceparent".to_owned(), "00-a".to_owned())));
        assert!(headers.contains(&("n".to_owned(), "1".to_owned())));
        assert_eq!(headers.len(), 5 + 2);
    }

    #[test]
    fn a_sequence_is_stamped_when_wanted_and_that_of_the_writer_goes_first() {
        let mut message = message("order", Some("7"));
        message.seq = 17;
        let of = |encoder: &CloudEvents, message: &Message| {
            let headers = headers_of(encoder, message).into_iter();
            headers.filter(|(name, _)| name.contains("sequence")).collect::<Vec<_>>()
        };
        assert_eq!(of(&CloudEvents::new("/shop"), &message), []);
        let encoder = CloudEvents::new("/shop").with_sequence();
        assert_eq!(of(&encoder, &message), pairs(&[("cloudEvents_sequence", "0000000000000000017")]));
        message.headers = Headers::from_json(r#"{"outboxsequence":"0000000003"}"#);
        let own = pairs(&[("cloudEvents_sequence", "0000000003"), ("cloudEvents_sequencetype", "Integer")]);
        assert_eq!(of(&encoder, &message), own);
    }

    #[test]
    fn a_structured_event_is_one_json_text() {
        let message = message("order", Some("7"));
        let prepared = prepared(&StructuredCloudEvents::new("/shop"), &message);
        assert_eq!(prepared.properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
        assert_eq!(&prepared.body[..], CloudEvent::new(&message, "/shop").to_json());
    }

    #[test]
    fn a_plain_publication_carries_its_own_headers_and_no_envelope() {
        let mut message = message("order", Some("7"));
        message.headers = Headers::from_json(r#"{"a":"b"}"#);
        assert_eq!(headers_of(&Plain, &message), pairs(&[("a", "b")]));
    }
}
