use lapin::BasicProperties;
use lapin::message::Delivery;
use outbox_core::inbox::{Incoming, IncomingHeaders, Partition};
use time::OffsetDateTime;

use super::headers::bytes_of;

/// A delivery as the inbox gets it. Its position is its tag.
pub(super) fn incoming(partition: Partition, delivery: Delivery) -> Incoming {
    let Delivery { delivery_tag, exchange, routing_key, redelivered, properties, data, .. } = delivery;
    let mut headers = IncomingHeaders::default();
    for (name, value) in properties.headers().iter().flat_map(|table| table.inner()) {
        headers.push(name.as_str(), bytes_of(value));
    }
    // after the table: of two headers with one name the last stands, and a property is what the producer's client meant
    for (name, value) in properties_of(&properties) {
        headers.push(name, value);
    }
    headers.push("amqp-exchange", exchange.as_str().to_owned());
    headers.push("amqp-routing-key", routing_key.as_str().to_owned());
    Incoming {
        partition,
        position: i64::try_from(delivery_tag).unwrap_or(i64::MAX),
        key: None,
        headers,
        payload: Some(data.into()),
        timestamp: properties.timestamp().and_then(stamped_at),
        redelivered,
    }
}

/// The properties that are there, by the names of the headers that the transport makes them of.
fn properties_of(properties: &BasicProperties) -> impl Iterator<Item = (&'static str, String)> {
    let texts = [
        ("content-type", properties.content_type()),
        ("content-encoding", properties.content_encoding()),
        ("correlation-id", properties.correlation_id()),
        ("reply-to", properties.reply_to()),
        ("message-id", properties.message_id()),
        ("type", properties.kind()),
        ("amqp-expiration", properties.expiration()),
        ("amqp-user-id", properties.user_id()),
        ("amqp-app-id", properties.app_id()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?.as_str().to_owned())));
    texts.chain(properties.priority().map(|priority| ("amqp-priority", priority.to_string())))
}

/// AMQP counts seconds since 1970.
fn stamped_at(seconds: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    fn delivery(properties: BasicProperties) -> Delivery {
        let mut delivery = Delivery::mock(7, "outbox".into(), "order.placed".into(), true, b"{}".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn read(properties: BasicProperties) -> Incoming {
        incoming(Partition::new("billing", 0), delivery(properties))
    }

    #[test]
    fn a_delivery_without_properties_has_a_place_and_a_payload() {
        let read = read(BasicProperties::default());
        assert_eq!((read.position, read.redelivered, read.timestamp), (7, true, None));
        assert_eq!(read.payload.as_ref().unwrap().as_ref(), b"{}");
        let headers: Vec<_> = read.headers.iter().collect();
        assert_eq!(headers, [("amqp-exchange", &b"outbox"[..]), ("amqp-routing-key", &b"order.placed"[..])]);
    }

    #[test]
    fn properties_are_headers_and_stand_before_headers_of_the_same_name() {
        let mut table = FieldTable::default();
        table.insert("type".into(), AMQPValue::LongString("other".into()));
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_type("order.placed".into())
            .with_message_id("m1".into())
            .with_content_type("application/json".into())
            .with_priority(3)
            .with_timestamp(1_795_256_430);
        let read = read(properties);
        for (name, value) in [
            ("type", "order.placed"),
            ("message-id", "m1"),
            ("content-type", "application/json"),
            ("amqp-priority", "3"),
            ("x-delivery-count", "3"),
        ] {
            assert_eq!(read.headers.get(name), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(read.timestamp.map(OffsetDateTime::unix_timestamp), Some(1_795_256_430));
    }

    #[test]
    fn a_time_that_no_calendar_has_is_none() {
        assert_eq!(read(BasicProperties::default().with_timestamp(u64::MAX)).timestamp, None);
    }
}
