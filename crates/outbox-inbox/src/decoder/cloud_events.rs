use outbox_core::inbox::Incoming;
use outbox_core::message::Sequence;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Decoder, Envelope, InvalidEnvelope, content_type, header_where, record_key, structured};

/// How the attribute headers of binary mode begin: Kafka's protocol binding, HTTP's (which bridges leave), and both of AMQP's.
const PREFIXES: [&str; 4] = ["ce_", "ce-", "cloudEvents:", "cloudEvents_"];

/// CloudEvents 1.0, in binary mode (attributes as headers, the payload untouched) and structured mode (JSON).
///
/// The ordering key is the record's key, or else the attribute `partitionkey`, or else `subject`.
///
/// Sources: CloudEvents 1.0.2 and its protocol bindings for Kafka (3.2, 3.3) and AMQP (3.1, 3.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct CloudEvents;

impl Decoder for CloudEvents {
    fn decode(&self, incoming: &Incoming) -> Result<Envelope, InvalidEnvelope> {
        match content_type(incoming)?.filter(|media| is_structured(media)) {
            Some(media) => structured::decode(incoming, &media),
            None => binary(incoming),
        }
    }
}

pub(super) fn is_cloud_event(incoming: &Incoming) -> bool {
    let structured = content_type(incoming).ok().flatten().is_some_and(|media| is_structured(&media));
    structured || incoming.headers.iter().any(|(name, _)| attribute(name).is_some())
}

fn is_structured(media: &str) -> bool {
    media.trim_start().to_ascii_lowercase().starts_with("application/cloudevents")
}

/// The attribute that a header carries.
fn attribute(header: &str) -> Option<&str> {
    let prefix = PREFIXES
        .iter()
        .find(|prefix| header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))?;
    header.get(prefix.len()..)
}

fn binary(incoming: &Incoming) -> Result<Envelope, InvalidEnvelope> {
    let get =
        |wanted: &str| header_where(incoming, |name| attribute(name).is_some_and(|a| a.eq_ignore_ascii_case(wanted)));
    let missing = || InvalidEnvelope("the attribute type is missing: a CloudEvent must have one".to_owned());
    let subject = get("subject")?;
    // an extension: what is no sequence to us may be one to others
    let (sequence, sequencetype) = (get("sequence").ok().flatten(), get("sequencetype").ok().flatten());
    let key = match (record_key(incoming), get("partitionkey")?) {
        (Some(key), _) => Some(key),
        (None, other) => other.or_else(|| subject.clone()).map(String::into_bytes),
    };
    Ok(Envelope {
        source: get("source")?,
        id: get("id")?,
        event_type: get("type")?.ok_or_else(missing)?,
        key,
        content_type: content_type(incoming)?.or(get("datacontenttype")?),
        payload: incoming.payload.clone().unwrap_or_default(),
        time: get("time")?.map(|text| parse_time(&text)).transpose()?,
        subject,
        sequence: sequence.and_then(|text| Sequence::from_attributes(&text, sequencetype.as_deref())),
    })
}

pub(super) fn parse_time(text: &str) -> Result<OffsetDateTime, InvalidEnvelope> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        InvalidEnvelope("the attribute time is no RFC 3339 timestamp: its producer must send one".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use outbox_core::inbox::{IncomingHeaders, Partition};

    use super::*;

    fn incoming(headers: &[(&str, &str)], payload: &str) -> Incoming {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_string().into())).collect();
        Incoming {
            partition: Partition::new("order", 0),
            position: 0,
            key: None,
            headers: IncomingHeaders::new(headers),
            payload: Some(payload.as_bytes().to_vec().into()),
            timestamp: None,
            redelivered: false,
        }
    }

    #[test]
    fn every_spelling_of_the_attributes_is_read() {
        for prefix in ["ce_", "ce-", "CE_", "cloudEvents:", "cloudEvents_", "cloudevents:"] {
            let names = ["id", "source", "type", "time", "subject"].map(|name| format!("{prefix}{name}"));
            let values = ["1", "/shop", "order.placed", "2026-11-21T10:20:30.5Z", "7"];
            let mut headers: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            headers.push(("Content-Type", "application/json"));
            let incoming = incoming(&headers, "{}");
            assert!(is_cloud_event(&incoming));
            let read = CloudEvents.decode(&incoming).unwrap();
            assert_eq!((read.id.as_deref(), read.source.as_deref()), (Some("1"), Some("/shop")), "{prefix}");
            assert_eq!((read.event_type.as_str(), read.subject.as_deref()), ("order.placed", Some("7")));
            assert_eq!(read.key.as_deref(), Some(&b"7"[..]));
            assert_eq!(read.time.map(OffsetDateTime::unix_timestamp), Some(1_795_256_430));
            assert_eq!(read.payload.as_ref(), b"{}");
        }
    }

    #[test]
    fn the_sequence_is_read_and_one_of_others_is_not_looked_at() {
        let read = |sequence: &str, kind: &str| {
            let headers = [("ce_type", "t"), ("ce_sequence", sequence), ("ce_sequencetype", kind)];
            CloudEvents.decode(&incoming(&headers, "")).unwrap().sequence
        };
        assert_eq!(read("0000000003", "Integer"), Some(Sequence { number: 3, is_contiguous: true }));
        assert_eq!(read("0000000000000000017", ""), Some(Sequence { number: 17, is_contiguous: false }));
        assert_eq!(read("b7", "Letters"), None);
        let event = r#"{"type":"t","sequence":"0000000003","sequencetype":"Integer"}"#;
        let structured = [("content-type", "application/cloudevents+json")];
        let of = |event: &str| CloudEvents.decode(&incoming(&structured, event)).unwrap().sequence;
        assert_eq!(of(event), Some(Sequence { number: 3, is_contiguous: true }));
        assert_eq!(of(r#"{"type":"t","sequence":3}"#), None);
    }

    #[test]
    fn the_record_key_orders_before_the_attributes() {
        let mut keyed =
            incoming(&[("ce_id", "1"), ("ce_type", "t"), ("ce_partitionkey", "p"), ("ce_subject", "s")], "");
        assert_eq!(CloudEvents.decode(&keyed).unwrap().key.as_deref(), Some(&b"p"[..]));
        keyed.key = Some(b"k".to_vec().into());
        assert_eq!(CloudEvents.decode(&keyed).unwrap().key.as_deref(), Some(&b"k"[..]));
    }

    #[test]
    fn a_structured_event_is_unwrapped() {
        let event = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","subject":"7",
            "time":"2026-11-21T10:20:30Z","datacontenttype":"application/json","data":{"total":1250}}"#;
        let read =
            CloudEvents.decode(&incoming(&[("content-type", "application/cloudevents+json; charset=UTF-8")], event));
        let read = read.unwrap();
        assert_eq!((read.id.as_deref(), read.event_type.as_str()), (Some("1"), "order.placed"));
        assert_eq!(read.payload.as_ref(), br#"{"total":1250}"#);
        assert_eq!(read.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn structured_data_may_be_text_or_base64() {
        let of = |data: &str| {
            let event = format!(r#"{{"id":"1","source":"/s","type":"t","datacontenttype":"text/plain",{data}}}"#);
            CloudEvents.decode(&incoming(&[("content-type", "application/cloudevents+json")], &event)).unwrap().payload
        };
        assert_eq!(of(r#""data":"hello""#).as_ref(), b"hello");
        assert_eq!(of(r#""data_base64":"AP8Q""#).as_ref(), b"\x00\xff\x10");
    }

    #[test]
    fn poison_is_refused_without_showing_it() {
        let structured = [("content-type", "application/cloudevents+json")];
        for poison in ["", "{secret", "[1]", r#"{"id":7,"type":"t"}"#, r#"{"type":"t","data_base64":"secret!"}"#] {
            let error = CloudEvents.decode(&incoming(&structured, poison)).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let batch = [("content-type", "application/cloudevents-batch+json")];
        assert!(CloudEvents.decode(&incoming(&batch, "[]")).is_err());
        assert!(CloudEvents.decode(&incoming(&[("ce_id", "1")], "")).is_err(), "without a type");
        assert!(CloudEvents.decode(&incoming(&[("ce_type", "t"), ("ce_time", "yesterday")], "")).is_err());
    }
}
