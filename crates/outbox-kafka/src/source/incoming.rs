use std::sync::Arc;

use outbox_core::inbox::{Incoming, IncomingHeaders, Partition};
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use time::OffsetDateTime;

/// The partition of a record; its topic's name is shared.
pub(super) fn partition_of(topics: &[Arc<str>], topic: &str, number: i32) -> Partition {
    match topics.iter().find(|known| ***known == *topic) {
        Some(known) => Partition::new(known.clone(), number),
        None => Partition::new(topic, number),
    }
}

pub(super) fn incoming(partition: Partition, record: &BorrowedMessage<'_>) -> Incoming {
    let mut headers = IncomingHeaders::default();
    for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
        headers.push(header.key, header.value.unwrap_or_default().to_vec());
    }
    Incoming {
        partition,
        position: record.offset(),
        key: record.key().map(|key| key.to_vec().into()),
        headers,
        payload: record.payload().map(|payload| payload.to_vec().into()),
        timestamp: stamped_at(record.timestamp()),
        redelivered: false,
    }
}

/// Kafka counts milliseconds since 1970; -1 says that nobody stamped.
fn stamped_at(timestamp: Timestamp) -> Option<OffsetDateTime> {
    let ms = timestamp.to_millis().filter(|ms| *ms >= 0)?;
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_nobody_stamped_or_that_no_calendar_has_is_none() {
        assert_eq!(stamped_at(Timestamp::NotAvailable), None);
        assert_eq!(stamped_at(Timestamp::CreateTime(-1)), None);
        assert_eq!(stamped_at(Timestamp::CreateTime(i64::MAX)), None);
        let stamped = stamped_at(Timestamp::LogAppendTime(1_500)).unwrap();
        assert_eq!(stamped.unix_timestamp_nanos(), 1_500_000_000);
    }
}
