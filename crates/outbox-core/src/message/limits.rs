use super::NewMessage;

/// What a message may hold. Checked before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes. Default 1,000,000: Kafka's default for a whole record (`message.max.bytes` 1,048,576) less the key and headers.
    pub payload_bytes: usize,
    /// Characters of `aggregate_type`, `aggregate_id`, `event_type` and `content_type`. Default 255: the column width,
    /// and RabbitMQ's limit of a routing key.
    pub name_chars: usize,
    /// Number of headers. Default 64.
    pub headers: usize,
    /// Bytes of all header names and values together. Default 16,384.
    pub headers_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: 1_000_000, name_chars: 255, headers: 64, headers_bytes: 16_384 }
    }
}

/// Why a message cannot be appended. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// A field that must not be empty is.
    #[error("{field} is empty: give it a value")]
    Empty {
        /// The field's name.
        field: &'static str,
    },
    /// A field is over its limit.
    #[error("{field} has {actual} {unit}, the limit is {limit}: {fix}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The value's size.
        actual: usize,
        /// The limit.
        limit: usize,
        /// `bytes`, `characters` or `headers`.
        unit: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// A text holds a NUL character, which PostgreSQL cannot store.
    #[error("{field} holds a NUL character, which a text column cannot store: remove it")]
    Nul {
        /// The field's name.
        field: &'static str,
    },
    /// A header name is one that the library sets itself.
    #[error(
        "header {name:?} is reserved: names that start with `ce_` or `ce-` and `content-type` are set by the relay"
    )]
    ReservedHeader {
        /// The header's name.
        name: String,
    },
    /// A time is outside of what a row and a CloudEvents timestamp can hold.
    #[error("{field} is outside of the years 1 to 9999: use a time within them")]
    TimeOutOfRange {
        /// The field's name.
        field: &'static str,
    },
    /// The payload of a typed event cannot be serialized.
    #[error("the event cannot be serialized as JSON")]
    Payload {
        /// What the serializer said (its position and kind only).
        reason: String,
    },
}

impl Limits {
    /// Checks a message against the limits.
    ///
    /// # Errors
    ///
    /// The first [`InvalidMessage`] found, in the order of the fields.
    pub fn check(&self, message: &NewMessage) -> Result<(), InvalidMessage> {
        self.name("aggregate_type", &message.aggregate_type)?;
        if let Some(id) = &message.aggregate_id {
            self.name("aggregate_id", id)?;
        }
        self.name("event_type", &message.event_type)?;
        self.name("content_type", &message.content_type)?;
        self.headers(message)?;
        for (field, time) in [("occurred_at", message.occurred_at), ("available_at", message.available_at)] {
            let year = time.map(|time| time.checked_to_offset(time::UtcOffset::UTC).map(|utc| utc.year()));
            if year.is_some_and(|year| !year.is_some_and(|year| (1..=9999).contains(&year))) {
                return Err(InvalidMessage::TimeOutOfRange { field });
            }
        }
        at_most(
            "payload",
            message.payload.0.len(),
            self.payload_bytes,
            "bytes",
            "store the bytes elsewhere and send a reference, or raise Limits::payload_bytes and the broker's limit",
        )
    }

    fn name(&self, field: &'static str, text: &str) -> Result<(), InvalidMessage> {
        if text.is_empty() {
            return Err(InvalidMessage::Empty { field });
        }
        at_most(field, text.chars().count(), self.name_chars, "characters", "shorten it")?;
        no_nul(field, text)
    }

    fn headers(&self, message: &NewMessage) -> Result<(), InvalidMessage> {
        at_most("headers", message.headers.len(), self.headers, "headers", "send fewer")?;
        let bytes = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        at_most("headers", bytes, self.headers_bytes, "bytes", "move the data into the payload")?;
        for (name, value) in &message.headers {
            if name.is_empty() {
                return Err(InvalidMessage::Empty { field: "header name" });
            }
            no_nul("header name", name)?;
            no_nul("header value", value)?;
            let lower = name.to_ascii_lowercase();
            if lower.starts_with("ce_") || lower.starts_with("ce-") || lower == "content-type" {
                return Err(InvalidMessage::ReservedHeader { name: name.clone() });
            }
        }
        Ok(())
    }
}

fn at_most(
    field: &'static str,
    actual: usize,
    limit: usize,
    unit: &'static str,
    fix: &'static str,
) -> Result<(), InvalidMessage> {
    if actual > limit { Err(InvalidMessage::TooLong { field, actual, limit, unit, fix }) } else { Ok(()) }
}

fn no_nul(field: &'static str, text: &str) -> Result<(), InvalidMessage> {
    if text.contains('\0') { Err(InvalidMessage::Nul { field }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> NewMessage {
        NewMessage::new("order", "order.placed", b"{}".to_vec()).aggregate_id("1")
    }

    #[test]
    fn a_plain_message_passes() {
        assert_eq!(Limits::default().check(&message()), Ok(()));
    }

    #[test]
    fn a_payload_over_the_limit_names_the_field_the_limit_and_its_size() {
        let limits = Limits { payload_bytes: 1, ..Limits::default() };
        let error = limits.check(&message()).unwrap_err().to_string();
        assert!(error.contains("payload has 2 bytes, the limit is 1"), "{error}");
    }

    #[test]
    fn a_key_is_counted_in_characters_and_must_not_be_empty() {
        let limits = Limits::default();
        assert_eq!(limits.check(&message().aggregate_id("é".repeat(255))), Ok(()));
        assert!(matches!(
            limits.check(&message().aggregate_id("é".repeat(256))),
            Err(InvalidMessage::TooLong { field: "aggregate_id", actual: 256, limit: 255, .. })
        ));
        assert_eq!(limits.check(&message().aggregate_id("")), Err(InvalidMessage::Empty { field: "aggregate_id" }));
    }

    #[test]
    fn a_time_whose_year_in_utc_no_database_has_is_refused() {
        let west = time::UtcOffset::from_hms(-1, 0, 0).unwrap();
        let last = time::PrimitiveDateTime::MAX;
        let limits = Limits::default();
        assert_eq!(limits.check(&message().occurred_at(last.assume_utc())), Ok(()));
        for beyond in [last.assume_offset(west), time::OffsetDateTime::UNIX_EPOCH - time::Duration::days(719_600)] {
            let refused = Err(InvalidMessage::TimeOutOfRange { field: "available_at" });
            assert_eq!(limits.check(&message().available_at(beyond)), refused);
        }
    }

    #[test]
    fn nul_and_reserved_headers_are_refused() {
        let limits = Limits::default();
        assert_eq!(limits.check(&message().aggregate_id("a\0b")), Err(InvalidMessage::Nul { field: "aggregate_id" }));
        for name in ["ce_id", "CE-type", "Content-Type"] {
            assert!(matches!(limits.check(&message().header(name, "x")), Err(InvalidMessage::ReservedHeader { .. })));
        }
        assert!(matches!(
            limits.check(&message().header("a", "x".repeat(20_000))),
            Err(InvalidMessage::TooLong { field: "headers", .. })
        ));
    }
}
