use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use outbox_core::Message;
use outbox_core::ports::Reason;

use crate::Encoder;

/// Written to disk by queues that are durable.
const PERSISTENT: u8 = 2;

/// Longest value of a property or name of a header, in bytes.
const MAX_SHORT_BYTES: usize = 255;

/// Headers of the message that become properties.
const HEADER_OF: [(&str, Property); 5] = [
    ("amqp-app-id", Property::AppId),
    ("amqp-expiration", Property::Expiration),
    ("amqp-priority", Property::Priority),
    ("content-encoding", Property::ContentEncoding),
    ("correlation-id", Property::CorrelationId),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    AppId,
    Expiration,
    Priority,
    ContentEncoding,
    CorrelationId,
}

/// A message on its way to the broker, while an [`Encoder`] writes it.
pub struct Publication {
    own: BTreeMap<String, String>,
    headers: FieldTable,
    header_bytes: usize,
    body: Bytes,
    content_type: String,
    fault: Option<Reason>,
}

/// What messages that name none get.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) app_id: Option<ShortString>,
    pub(crate) priority: Option<u8>,
    pub(crate) expiration: Option<Duration>,
}

/// What fits on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest frame that was agreed with the broker.
    pub(crate) frame_bytes: usize,
    /// Largest body that the broker takes.
    pub(crate) body_bytes: usize,
}

/// A message that is ready to go.
pub(crate) struct Prepared {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl Publication {
    /// Sets the body instead of the payload.
    pub fn body(&mut self, body: impl Into<Bytes>) {
        self.body = body.into();
    }

    /// Sets the property `content_type` instead of the message's.
    pub fn content_type(&mut self, content_type: impl Into<String>) {
        self.content_type = content_type.into();
    }

    /// Adds a header. A name is there once: the last value stands. A name of more than 255 bytes makes the message a dead letter.
    pub fn header(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let Ok(short) = ShortString::try_new(name) else {
            return self
                .refuse(format!("the name of a header has {} bytes, the limit is {MAX_SHORT_BYTES}", name.len()));
        };
        let value = value.into();
        self.header_bytes += table_entry_bytes(name, &value);
        self.headers.insert(short, AMQPValue::LongString(value.into()));
    }

    /// Adds the message's own headers, except those that `is_reserved` and those that became properties.
    pub fn own_headers(&mut self, is_reserved: impl Fn(&str) -> bool) {
        for (name, value) in std::mem::take(&mut self.own) {
            if !is_reserved(&name) {
                self.header(&name, value);
            }
        }
    }

    /// Takes one of the message's own headers away from [`own_headers`](Self::own_headers).
    pub fn take_own_header(&mut self, name: &str) -> Option<String> {
        self.own.remove(name)
    }

    /// Encodes a message.
    ///
    /// # Errors
    ///
    /// Why the broker would refuse it for good.
    pub(crate) fn prepare<E: Encoder + ?Sized>(
        message: &Message,
        encoder: &E,
        defaults: &Defaults,
        limits: &Limits,
    ) -> Result<Prepared, Reason> {
        let own = if message.headers.is_empty() { BTreeMap::new() } else { message.headers.to_map() };
        let mut publication = Self {
            own,
            headers: FieldTable::default(),
            header_bytes: 0,
            body: message.payload.0.clone(),
            content_type: message.content_type.clone(),
            fault: None,
        };
        let properties = publication.properties(message, defaults)?;
        encoder.encode(message, &mut publication);
        publication.finish(properties, limits)
    }

    /// The properties that no encoder has a say in. Takes the headers that stand for some of them.
    fn properties(&mut self, message: &Message, defaults: &Defaults) -> Result<BasicProperties, Reason> {
        let id = message.id.as_hyphenated().encode_lower(&mut [0; 36]).to_owned();
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short("message_id", "id", id)?)
            .with_type(short("type", "event_type", message.event_type.clone())?);
        if let Ok(seconds) = u64::try_from(message.occurred_at.unix_timestamp()) {
            properties = properties.with_timestamp(seconds); // AMQP has no time before 1970
        }
        if let Some(app_id) = &defaults.app_id {
            properties = properties.with_app_id(app_id.clone());
        }
        if let Some(priority) = defaults.priority {
            properties = properties.with_priority(priority);
        }
        if let Some(expiration) = defaults.expiration {
            properties = properties.with_expiration(expiration.as_millis().to_string().into());
        }
        for (name, property) in HEADER_OF {
            if let Some(value) = self.own.remove(name) {
                properties = property.set(properties, name, value)?;
            }
        }
        Ok(properties)
    }

    fn finish(self, properties: BasicProperties, limits: &Limits) -> Result<Prepared, Reason> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut properties = properties.with_content_type(short("content_type", "content_type", self.content_type)?);
        if self.body.len() > limits.body_bytes {
            let text = format!(
                "the message has {} bytes and max_message_bytes is {}: raise it and max_message_size of the broker, or send a reference",
                self.body.len(),
                limits.body_bytes
            );
            return Err(Reason::new(text));
        }
        let frame_bytes = HEADER_FRAME_BYTES + short_bytes(&properties) + self.header_bytes;
        if frame_bytes > limits.frame_bytes {
            let text = format!(
                "the headers take {frame_bytes} bytes, the largest frame that was agreed with the broker has {}: \
                 send less, or raise frame_max of the broker",
                limits.frame_bytes
            );
            return Err(Reason::new(text));
        }
        if self.header_bytes > 0 {
            properties = properties.with_headers(self.headers);
        }
        Ok(Prepared { properties, body: self.body })
    }

    fn refuse(&mut self, text: String) {
        self.fault.get_or_insert_with(|| Reason::new(text));
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("header_bytes", &self.header_bytes)
            .field("body_bytes", &self.body.len())
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

impl Property {
    fn set(self, properties: BasicProperties, header: &str, value: String) -> Result<BasicProperties, Reason> {
        match self {
            Self::AppId => Ok(properties.with_app_id(short("app_id", header, value)?)),
            Self::ContentEncoding => Ok(properties.with_content_encoding(short("content_encoding", header, value)?)),
            Self::CorrelationId => Ok(properties.with_correlation_id(short("correlation_id", header, value)?)),
            Self::Priority => match value.parse() {
                Ok(priority) => Ok(properties.with_priority(priority)),
                Err(_) => {
                    Err(Reason::new(format!("header {header} is no priority: give a whole number from 0 to 255")))
                }
            },
            // RabbitMQ closes the channel over any other form.
            Self::Expiration => match value.parse::<u32>() {
                Ok(millis) => Ok(properties.with_expiration(millis.to_string().into())),
                Err(_) => {
                    let limit = u32::MAX;
                    Err(Reason::new(format!(
                        "header {header} is no expiration: give whole milliseconds from 0 to {limit}"
                    )))
                }
            },
        }
    }
}

fn short(property: &str, from: &str, value: String) -> Result<ShortString, Reason> {
    let bytes = value.len();
    ShortString::try_new(value).map_err(|_| {
        Reason::new(format!("{from} has {bytes} bytes, the limit of the property {property} is {MAX_SHORT_BYTES}"))
    })
}

/// A content header frame with everything but its texts: frame header and end 8, class, weight, body size and flags 14, table length 4, delivery mode 1,
/// priority 1, timestamp 8.
///
/// Source: AMQP 0-9-1 specification, sections 2.3.5 and 4.2.6.
const HEADER_FRAME_BYTES: usize = 8 + 14 + 4 + 1 + 1 + 8;

/// Bytes of the texts among the properties, each with its length.
fn short_bytes(properties: &BasicProperties) -> usize {
    [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.app_id(),
    ]
    .into_iter()
    .flatten()
    .map(|text| 1 + text.as_str().len())
    .sum()
}

/// Bytes of one entry of a table: name with its length, type, value with its length.
fn table_entry_bytes(name: &str, value: &[u8]) -> usize {
    1 + name.len() + 1 + 4 + value.len()
}

#[cfg(test)]
mod tests;
