//! Messages as binds of the insert statements.

use diesel::mysql::Mysql;
use diesel::mysql::data_types::{MysqlTime, MysqlTimestampType};
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::serialize::{Output, ToSql};
use diesel::sql_types::{Binary, Datetime, Nullable, Text};
use outbox_core::NewMessage;
use time::{OffsetDateTime, UtcOffset};

use crate::append::{Opaque, headers_json, size_bytes};
use crate::sql::Binds;

/// The columns of an insert, in the order of the binds. `seq` and `shard` are not a writer's.
pub(super) const COLUMNS: &str = "id, aggregate_type, aggregate_id, event_type, payload, content_type, headers, occurred_at, \
     available_at";

/// Messages of one statement. With [`PART_BYTES`] it keeps a statement far below the 0.25 s that the relay's order rule counts on: with
/// eight writers on two cores that do nothing else the slowest took 67 ms, and with 200 messages and 1 MiB 225 ms.
const PART_ROWS: usize = 100;

/// Bytes of payloads and headers of one statement; a larger message has one of its own.
const PART_BYTES: usize = 256 << 10;

/// Statements with more rows are prepared for one use, unless they are full: a connection keeps what it prepares, and a server has
/// room for 16,382 statements of all connections.
const CACHED_ROWS: usize = 16;

/// Messages in the parts that are one statement each.
pub(super) fn parts(messages: &[NewMessage]) -> impl Iterator<Item = &[NewMessage]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take(PART_ROWS).take_while(|message| {
            bytes += size_bytes(message);
            bytes <= PART_BYTES
        });
        let (part, after) = rest.split_at(fit.count().max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// The placeholders of `rows` rows. An insert of values knows the number of its rows, so that it takes no lock on the
/// `AUTO_INCREMENT` of the table as `INSERT … SELECT` does.
pub(super) fn values(rows: usize) -> String {
    const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, coalesce(?, utc_timestamp(6)), ?)";
    vec![ROW; rows].join(", ")
}

/// Messages as rows, a bind a column.
pub(super) struct Rows<'a>(Vec<Row<'a>>);

struct Row<'a> {
    message: &'a NewMessage,
    payload: Opaque<'a>,
    headers: String,
    occurred_at: Option<MysqlTime>,
    available_at: Option<MysqlTime>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(messages: &'a [NewMessage]) -> Self {
        let row = |message: &'a NewMessage| Row {
            message,
            payload: Opaque(message.payload.as_ref()),
            headers: headers_json(message),
            occurred_at: message.occurred_at.map(datetime),
            available_at: message.available_at.map(datetime),
        };
        Self(messages.iter().map(row).collect())
    }
}

impl Binds<Mysql> for Rows<'_> {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        if self.0.len() > CACHED_ROWS && self.0.len() != PART_ROWS {
            pass.unsafe_to_cache_prepared();
        }
        for row in &self.0 {
            pass.push_bind_param_value_only::<Binary, [u8]>(row.message.id.as_bytes())?;
            pass.push_bind_param_value_only::<Text, _>(&row.message.aggregate_type)?;
            pass.push_bind_param_value_only::<Nullable<Text>, _>(&row.message.aggregate_id)?;
            pass.push_bind_param_value_only::<Text, _>(&row.message.event_type)?;
            pass.push_bind_param_value_only::<Binary, _>(&row.payload)?;
            pass.push_bind_param_value_only::<Text, _>(&row.message.content_type)?;
            pass.push_bind_param_value_only::<Text, _>(&row.headers)?;
            pass.push_bind_param_value_only::<Nullable<Datetime>, _>(&row.occurred_at)?;
            pass.push_bind_param_value_only::<Nullable<Datetime>, _>(&row.available_at)?;
        }
        Ok(())
    }
}

impl ToSql<Binary, Mysql> for Opaque<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Mysql>) -> diesel::serialize::Result {
        <[u8] as ToSql<Binary, Mysql>>::to_sql(self.0, out)
    }
}

/// In UTC. What is finer than a microsecond is cut. The limits have checked the year.
pub(crate) fn datetime(time: OffsetDateTime) -> MysqlTime {
    let time = time.to_offset(UtcOffset::UTC);
    MysqlTime::new(
        time.year().unsigned_abs(),
        u8::from(time.month()).into(),
        time.day().into(),
        time.hour().into(),
        time.minute().into(),
        time.second().into(),
        time.microsecond().into(),
        false,
        MysqlTimestampType::MYSQL_TIMESTAMP_DATETIME,
        0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(messages: &[NewMessage]) -> Vec<usize> {
        parts(messages).map(<[NewMessage]>::len).collect()
    }

    #[test]
    fn a_part_is_bounded_in_rows_and_bytes_and_a_large_message_is_alone() {
        let of = |bytes: usize| NewMessage::new("order", "order.placed", vec![0_u8; bytes]);
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&vec![of(1); 250]), [100, 100, 50]);
        assert_eq!(sizes(&vec![of(100_000); 5]), [2, 2, 1]);
        assert_eq!(sizes(&[of(1), of(5_000_000), of(5_000_000), of(1), of(1)]), [1, 1, 1, 2]);
    }
}
