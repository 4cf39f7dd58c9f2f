//! What is delivered: rows of one shape, the same for every relay.

use std::sync::Arc;

use bytes::Bytes;
use outbox::Message;
use outbox::message::{DEFAULT_CONTENT_TYPE, Headers, Payload};
use outbox::ports::ShardId;
use time::OffsetDateTime;
use uuid::Uuid;

/// The event type of every message.
pub const EVENT_TYPE: &str = "order.placed";

/// Rows to seed.
#[derive(Debug, Clone)]
pub struct Workload {
    /// How many.
    pub rows: usize,
    /// Ordering keys, which take turns.
    pub keys: usize,
    /// What the keys begin with, before their number.
    pub key_prefix: &'static str,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// When the messages become available, as SQL; `None`: at once.
    pub available_at: Option<&'static str>,
}

impl Workload {
    /// The usual: 300 bytes, 10,000 keys.
    pub fn usual(rows: usize) -> Self {
        Self { rows, keys: 10_000, key_prefix: "key", payload_bytes: 300, available_at: None }
    }

    /// The INSERT that makes the rows, as a plain one of another language would. The topic is their aggregate type.
    pub fn insert(&self, table: &str, topic: &str) -> String {
        let Self { rows, keys, key_prefix, .. } = self;
        let (column, value) = match self.available_at {
            Some(time) => (", available_at", format!(", {time}")),
            None => ("", String::new()),
        };
        format!(
            "INSERT INTO {table} (aggregate_type, aggregate_id, event_type, payload{column}) \
             SELECT '{topic}', '{key_prefix}-' || (n % {keys}), '{EVENT_TYPE}', {}{value} FROM generate_series(1, {rows}) AS n",
            self.payload()
        )
    }

    /// The same for MySQL and MariaDB. Payloads are text.
    pub fn mysql_insert(&self, table: &str, topic: &str) -> String {
        let Self { rows, keys, key_prefix, payload_bytes, .. } = self;
        let digits = rows.to_string().len();
        let number: Vec<_> = (0..digits).map(|place| format!("d{place}.d * 1{}", "0".repeat(place))).collect();
        let places: Vec<_> = (0..digits).map(|place| format!("digits AS d{place}")).collect();
        let digit: Vec<_> = (0..10).map(|digit| format!("SELECT {digit} AS d")).collect();
        format!(
            "INSERT INTO {table} (aggregate_type, aggregate_id, event_type, payload) WITH digits AS ({}) \
             SELECT '{topic}', concat('{key_prefix}-', n % {keys}), '{EVENT_TYPE}', \
             rpad(concat('{{\"order\":', n, ',\"note\":\"'), {payload_bytes}, 'x') \
             FROM (SELECT 1 + {} AS n FROM {}) AS numbers WHERE n <= {rows} ORDER BY n",
            digit.join(" UNION ALL "),
            number.join(" + "),
            places.join(", ")
        )
    }

    /// Payloads as SQL. What PostgreSQL would compress is random enough not to be.
    fn payload(&self) -> String {
        const DIGEST_BYTES: usize = 32;
        let bytes = self.payload_bytes;
        if bytes <= 1_000 {
            return format!("convert_to(rpad('{{\"order\":' || n || ',\"note\":\"', {bytes}, 'x'), 'UTF8')");
        }
        let digests = bytes.div_ceil(DIGEST_BYTES);
        format!(
            "(SELECT substring(string_agg(sha256(int8send(n * {digests} + i)), '' ORDER BY i) FROM 1 FOR {bytes}) \
             FROM generate_series(1, {digests}) AS i)"
        )
    }

    /// The same messages in memory.
    pub fn messages(&self, topic: &str) -> Vec<Arc<Message>> {
        let payload = Bytes::from(vec![b'x'; self.payload_bytes]);
        let now = OffsetDateTime::now_utc();
        (1..=self.rows)
            .map(|n| {
                Arc::new(Message {
                    id: Uuid::new_v4(),
                    shard: ShardId(0),
                    seq: i64::try_from(n).unwrap_or(i64::MAX),
                    aggregate_type: topic.to_owned(),
                    aggregate_id: Some(format!("{}-{}", self.key_prefix, n % self.keys)),
                    event_type: EVENT_TYPE.to_owned(),
                    payload: Payload(payload.clone()),
                    content_type: DEFAULT_CONTENT_TYPE.to_owned(),
                    headers: Headers::default(),
                    occurred_at: now,
                    attempts: 0,
                })
            })
            .collect()
    }
}
