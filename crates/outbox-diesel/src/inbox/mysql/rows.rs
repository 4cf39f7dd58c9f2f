//! Messages to keep, as binds of the statement that inserts them.

use diesel::mysql::Mysql;
use diesel::mysql::data_types::MysqlTime;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Datetime, Integer, Nullable, Text};
use outbox_core::inbox::{Aside, Fate};

use crate::inbox::shared::{micros_of, shortened};
use crate::mysql::append_rows::datetime;
use crate::sql::Binds;

/// The columns of an insert, in the order of the binds.
pub(super) const COLUMNS: &str = "consumer, source, id, ordering_key, stream, `partition`, position, record_key, headers, payload, \
    sent_at, redelivered, status, attempts, error, due_at";

const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, utc_timestamp(6) + INTERVAL ? MICROSECOND)";

/// Messages of one statement.
const PART_ROWS: usize = 100;

/// Bytes of one statement; a larger message has one of its own.
const PART_BYTES: usize = 1 << 20;

/// Statements with more rows are prepared for one use, unless they are full: a connection keeps what it prepares.
const CACHED_ROWS: usize = 16;

/// Messages in the parts that are one statement each.
pub(super) fn parts(messages: &[Aside]) -> impl Iterator<Item = &[Aside]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take(PART_ROWS).take_while(|aside| {
            bytes += aside.incoming.size_bytes();
            bytes <= PART_BYTES
        });
        let (part, after) = rest.split_at(fit.count().max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// The placeholders of `rows` rows. An insert of values knows the number of its rows, so that their numbers follow each other.
pub(super) fn values(rows: usize) -> String {
    vec![ROW; rows].join(", ")
}

/// Messages as rows, a bind a column.
pub(super) struct Rows<'m> {
    consumer: &'m [u8],
    rows: Vec<Row<'m>>,
}

struct Row<'m> {
    aside: &'m Aside,
    source: Option<&'m [u8]>,
    id: Option<&'m [u8]>,
    key: Option<&'m [u8]>,
    record_key: Option<&'m [u8]>,
    headers: String,
    payload: Option<&'m [u8]>,
    sent_at: Option<MysqlTime>,
    status: &'static str,
    attempts: i32,
    error: Option<String>,
    delay_micros: i64,
}

impl<'m> Rows<'m> {
    pub(super) fn of(consumer: &'m str, messages: &'m [Aside]) -> Self {
        Self { consumer: consumer.as_bytes(), rows: messages.iter().map(row).collect() }
    }
}

fn row(aside: &Aside) -> Row<'_> {
    let incoming = &aside.incoming;
    let (status, attempts, error, delay_micros) = match &aside.fate {
        Fate::Received => ("received", 0, None, 0),
        Fate::Waiting => ("waiting", 0, None, 0),
        Fate::Failed { attempts, delay, error } => ("failed", *attempts, Some(shortened(error)), micros_of(*delay)),
        // it is moved on at once
        Fate::Dead { attempts, error, .. } => ("failed", *attempts, Some(shortened(error)), 0),
    };
    Row {
        aside,
        source: aside.identity.as_ref().map(|identity| identity.source().as_bytes()),
        id: aside.identity.as_ref().map(|identity| identity.id().as_bytes()),
        key: aside.key.as_ref().map(|key| key.as_bytes()),
        record_key: incoming.key.as_ref().map(AsRef::as_ref),
        headers: incoming.headers.to_json(),
        payload: incoming.payload.as_ref().map(AsRef::as_ref),
        // a datetime holds no other years
        sent_at: incoming.timestamp.filter(|time| (1..=9999).contains(&time.year())).map(datetime),
        status,
        attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
        error,
        delay_micros,
    }
}

impl Binds<Mysql> for Rows<'_> {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        if self.rows.len() > CACHED_ROWS && self.rows.len() != PART_ROWS {
            pass.unsafe_to_cache_prepared();
        }
        for row in &self.rows {
            let incoming = &row.aside.incoming;
            pass.push_bind_param_value_only::<Binary, [u8]>(self.consumer)?;
            pass.push_bind_param_value_only::<Nullable<Binary>, _>(&row.source)?;
            pass.push_bind_param_value_only::<Nullable<Binary>, _>(&row.id)?;
            pass.push_bind_param_value_only::<Nullable<Binary>, _>(&row.key)?;
            pass.push_bind_param_value_only::<Binary, [u8]>(incoming.partition.stream.as_bytes())?;
            pass.push_bind_param_value_only::<Integer, _>(&incoming.partition.number)?;
            pass.push_bind_param_value_only::<BigInt, _>(&incoming.position)?;
            pass.push_bind_param_value_only::<Nullable<Binary>, _>(&row.record_key)?;
            pass.push_bind_param_value_only::<Text, _>(&row.headers)?;
            pass.push_bind_param_value_only::<Nullable<Binary>, _>(&row.payload)?;
            pass.push_bind_param_value_only::<Nullable<Datetime>, _>(&row.sent_at)?;
            pass.push_bind_param_value_only::<Bool, _>(&incoming.redelivered)?;
            pass.push_bind_param_value_only::<Text, _>(row.status)?;
            pass.push_bind_param_value_only::<Integer, _>(&row.attempts)?;
            pass.push_bind_param_value_only::<Nullable<Text>, _>(&row.error)?;
            pass.push_bind_param_value_only::<BigInt, _>(&row.delay_micros)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::inbox::{Incoming, IncomingHeaders, Partition};

    use super::*;

    fn of(bytes: usize) -> Aside {
        let incoming = Incoming {
            partition: Partition::new("order", 0),
            position: 1,
            key: None,
            headers: IncomingHeaders::default(),
            payload: Some(vec![0; bytes].into()),
            timestamp: None,
            redelivered: false,
        };
        Aside { identity: None, key: None, incoming, fate: Fate::Received }
    }

    fn sizes(messages: &[Aside]) -> Vec<usize> {
        parts(messages).map(<[Aside]>::len).collect()
    }

    #[test]
    fn a_part_is_bounded_in_rows_and_bytes_and_a_large_message_is_alone() {
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&vec![of(1); 250]), [100, 100, 50]);
        assert_eq!(sizes(&[of(1), of(5 << 20), of(5 << 20), of(1), of(1)]), [1, 1, 1, 2]);
    }
}
