use outbox_core::ports::ShardId;
use outbox_core::{Headers, Message, NewMessage};
use time::{Date, Month, OffsetDateTime, Time};

/// A message that occurred at 2026-11-21T10:20:30.5Z.
pub(crate) fn message(aggregate_type: &str, aggregate_id: Option<&str>) -> Message {
    let new = NewMessage::new(aggregate_type, "order.placed", &b"{}"[..]);
    Message {
        id: new.id,
        shard: ShardId(0),
        seq: 1,
        aggregate_type: new.aggregate_type,
        aggregate_id: aggregate_id.map(str::to_owned),
        event_type: new.event_type,
        payload: new.payload,
        content_type: new.content_type,
        headers: Headers::default(),
        occurred_at: OffsetDateTime::new_utc(
            Date::from_calendar_date(2026, Month::November, 21).unwrap(),
            Time::from_hms_milli(10, 20, 30, 500).unwrap(),
        ),
        attempts: 0,
    }
}
