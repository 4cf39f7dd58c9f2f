//! Raw column values: read in forms that cannot fail, so that no row can poison a batch.

use diesel::pg::Pg;
use diesel::row::{Field, Row};
use uuid::Uuid;

/// PostgreSQL counts time from 2000-01-01, in microseconds.
const EPOCH_UNIX_MICROS: i64 = 946_684_800_000_000;

fn column<'a, T>(row: &impl Row<'a, Pg>, index: usize, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let field = row.get(index)?;
    let value = field.value()?;
    Some(read(value.as_bytes()))
}

/// A `bigint` or `timestamptz` (microseconds from 2000-01-01); 0 when it is NULL.
pub(crate) fn big(row: &impl RowOf, index: usize) -> i64 {
    row.bytes(index, |bytes| bytes.try_into().map_or(0, i64::from_be_bytes)).unwrap_or(0)
}

/// An `integer`; 0 when it is NULL.
pub(crate) fn int(row: &impl RowOf, index: usize) -> i32 {
    row.bytes(index, |bytes| bytes.try_into().map_or(0, i32::from_be_bytes)).unwrap_or(0)
}

/// A `smallint`; 0 when it is NULL.
pub(crate) fn small(row: &impl RowOf, index: usize) -> i16 {
    row.bytes(index, |bytes| bytes.try_into().map_or(0, i16::from_be_bytes)).unwrap_or(0)
}

/// A `boolean`; `false` when it is NULL.
pub(crate) fn flag(row: &impl RowOf, index: usize) -> bool {
    row.bytes(index, |bytes| bytes == [1]).unwrap_or(false)
}

/// A `uuid`; nil when it is NULL.
pub(crate) fn uuid(row: &impl RowOf, index: usize) -> Uuid {
    row.bytes(index, |bytes| Uuid::from_slice(bytes).unwrap_or_default()).unwrap_or_default()
}

/// Bytes as they are.
#[cfg(feature = "inbox")]
pub(crate) fn blob(row: &impl RowOf, index: usize) -> Option<Vec<u8>> {
    row.bytes(index, <[u8]>::to_vec)
}

/// A `timestamptz`; `None` when it is NULL, or no time of the years 1 to 9999.
#[cfg(feature = "inbox")]
pub(crate) fn time(row: &impl RowOf, index: usize) -> Option<time::OffsetDateTime> {
    time_of(row.bytes(index, |bytes| bytes.try_into().map(i64::from_be_bytes).ok())??)
}

/// A text; `Err` when it is no UTF-8, which only a database of encoding SQL_ASCII can hold.
pub(crate) fn text(row: &impl RowOf, index: usize) -> Option<Result<String, NotUtf8>> {
    row.bytes(index, |bytes| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NotUtf8))
}

/// A text as well as it can be read.
pub(crate) fn lossy_text(row: &impl RowOf, index: usize) -> Option<String> {
    row.bytes(index, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A text that is no UTF-8.
#[derive(Debug)]
pub(crate) struct NotUtf8;

/// A time from microseconds since 2000-01-01; `None` for `infinity` and for years outside of 1 to 9999.
pub(crate) fn time_of(micros: i64) -> Option<time::OffsetDateTime> {
    let unix = micros.checked_add(EPOCH_UNIX_MICROS)?;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix) * 1000).ok()?;
    (1..=9999).contains(&time.year()).then_some(time)
}

/// A row of a PostgreSQL reply, without the lifetime that Diesel's trait carries.
pub(crate) trait RowOf {
    fn bytes<T>(&self, index: usize, read: impl FnOnce(&[u8]) -> T) -> Option<T>;
}

/// A reply's row as Diesel hands it over.
pub(crate) struct PgRow<'r, R>(pub(crate) &'r R);

impl<'a, R: Row<'a, Pg>> RowOf for PgRow<'_, R> {
    fn bytes<T>(&self, index: usize, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        column(self.0, index, read)
    }
}

/// A `timestamptz` bound as microseconds from 2000-01-01; `i64::MIN` is `-infinity`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Micros(pub(crate) i64);

#[cfg(feature = "inbox")]
impl Micros {
    /// A time, cut to microseconds; `None`: a `timestamptz` cannot hold it.
    pub(crate) fn of(time: time::OffsetDateTime) -> Option<Self> {
        let unix = i64::try_from(time.unix_timestamp_nanos().div_euclid(1000)).ok()?;
        unix.checked_sub(EPOCH_UNIX_MICROS).map(Self)
    }
}

impl diesel::serialize::ToSql<diesel::sql_types::Timestamptz, Pg> for Micros {
    fn to_sql<'b>(&'b self, out: &mut diesel::serialize::Output<'b, '_, Pg>) -> diesel::serialize::Result {
        use std::io::Write;
        out.write_all(&self.0.to_be_bytes())?;
        Ok(diesel::serialize::IsNull::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_message_can_have_are_none() {
        assert_eq!(time_of(0).unwrap().to_string(), "2000-01-01 0:00:00.0 +00:00:00");
        assert_eq!(time_of(i64::MAX), None, "infinity");
        assert_eq!(time_of(i64::MIN), None, "-infinity");
        assert_eq!(time_of(-63_113_904_000_000_001 - 1_000_000_000_000_000), None, "before year 1");
    }
}
