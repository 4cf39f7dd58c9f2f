use outbox_core::inbox::Incoming;
use outbox_core::message::{Payload, Sequence};
use serde_json::{Map, Value};

use super::base64::from_base64;
use super::cloud_events::parse_time;
use super::{Envelope, InvalidEnvelope, own_sequence, record_key};

/// Unwraps a CloudEvent in the JSON format.
pub(super) fn decode(incoming: &Incoming, media: &str) -> Result<Envelope, InvalidEnvelope> {
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media != "application/cloudevents+json" {
        return Err(InvalidEnvelope(format!("media type {media} is not supported: send application/cloudevents+json")));
    }
    let bytes = incoming.payload.as_ref().map_or(&[][..], |payload| payload.as_ref());
    let event: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        InvalidEnvelope(format!("the event is no JSON object (line {line}, column {column})"))
    })?;
    let subject = text(&event, "subject")?;
    let key = match (record_key(incoming), text(&event, "partitionkey")?) {
        (Some(key), _) => Some(key),
        (None, other) => other.or_else(|| subject.clone()).map(String::into_bytes),
    };
    let content_type = text(&event, "datacontenttype")?;
    Ok(Envelope {
        source: text(&event, "source")?,
        id: text(&event, "id")?,
        event_type: text(&event, "type")?
            .ok_or_else(|| InvalidEnvelope("the attribute type is missing: a CloudEvent must have one".to_owned()))?,
        key,
        payload: data(&event, content_type.as_deref())?,
        content_type: content_type.or_else(|| Some("application/json".to_owned())),
        time: text(&event, "time")?.map(|text| parse_time(&text)).transpose()?,
        subject,
        sequence: sequence(&event).or_else(|| own_sequence(incoming)),
    })
}

fn text(event: &Map<String, Value>, name: &'static str) -> Result<Option<String>, InvalidEnvelope> {
    match event.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(InvalidEnvelope(format!("the attribute {name} is no text: its producer must send a string"))),
    }
}

fn sequence(event: &Map<String, Value>) -> Option<Sequence> {
    let sequencetype = event.get("sequencetype").and_then(Value::as_str);
    Sequence::from_attributes(event.get("sequence")?.as_str()?, sequencetype)
}

/// A string is the payload itself unless the content is JSON.
fn data(event: &Map<String, Value>, content_type: Option<&str>) -> Result<Payload, InvalidEnvelope> {
    if let Some(encoded) = text(event, "data_base64")? {
        let bytes = from_base64(&encoded);
        return bytes.map(Payload::from).ok_or_else(|| InvalidEnvelope("data_base64 is no base64".to_owned()));
    }
    let is_json = content_type.is_none_or(|media| {
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media.ends_with("/json") || media.ends_with("+json")
    });
    Ok(match event.get("data") {
        None => Payload::default(),
        Some(Value::String(text)) if !is_json => text.clone().into_bytes().into(),
        Some(value) => value.to_string().into_bytes().into(),
    })
}
