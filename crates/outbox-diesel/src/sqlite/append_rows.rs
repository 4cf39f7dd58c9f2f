//! Messages as binds of the insert statements.

use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::serialize::{IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::sqlite::Sqlite;
use outbox_core::NewMessage;
use time::OffsetDateTime;

use crate::append::{Opaque, headers_json};
use crate::sql::Binds;

/// One message, a bind a column.
pub(super) struct Row<'a> {
    message: &'a NewMessage,
    id: String,
    payload: Opaque<'a>,
    headers: String,
    occurred_at: Option<i64>,
    available_at: Option<i64>,
}

/// Many messages: a JSON array of their columns, and their payloads joined.
pub(super) struct Bulk {
    columns: String,
    payloads: Joined,
}

/// Bytes of many payloads.
struct Joined(Vec<u8>);

impl<'a> Row<'a> {
    pub(super) fn of(message: &'a NewMessage) -> Self {
        Self {
            message,
            id: message.id.to_string(),
            payload: Opaque(message.payload.as_ref()),
            headers: headers_json(message),
            occurred_at: message.occurred_at.map(micros),
            available_at: message.available_at.map(micros),
        }
    }
}

impl Bulk {
    pub(super) fn of(messages: &[NewMessage]) -> Self {
        // The first byte is nobody's: SQLite cuts NULL, not an empty blob, out of one that is empty.
        let mut payloads = vec![0];
        let columns: Vec<_> = messages
            .iter()
            .map(|message| {
                let start = payloads.len() + 1; // SQL counts bytes from 1
                payloads.extend_from_slice(message.payload.as_ref());
                serde_json::json!([
                    message.id.to_string(),
                    message.aggregate_type,
                    message.aggregate_id,
                    message.event_type,
                    start,
                    message.payload.as_ref().len(),
                    message.content_type,
                    headers_json(message),
                    message.occurred_at.map(micros),
                    message.available_at.map(micros),
                ])
            })
            .collect();
        Self { columns: serde_json::Value::Array(columns).to_string(), payloads: Joined(payloads) }
    }
}

impl Binds<Sqlite> for Row<'_> {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        pass.push_bind_param_value_only::<Text, _>(&self.id)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.aggregate_type)?;
        pass.push_bind_param_value_only::<Nullable<Text>, _>(&self.message.aggregate_id)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.event_type)?;
        pass.push_bind_param_value_only::<Binary, _>(&self.payload)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.content_type)?;
        pass.push_bind_param_value_only::<Text, _>(&self.headers)?;
        pass.push_bind_param_value_only::<Nullable<BigInt>, _>(&self.occurred_at)?;
        pass.push_bind_param_value_only::<Nullable<BigInt>, _>(&self.available_at)
    }
}

impl Binds<Sqlite> for Bulk {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        pass.push_bind_param_value_only::<Text, _>(&self.columns)?;
        pass.push_bind_param_value_only::<Binary, _>(&self.payloads)
    }
}

impl ToSql<Binary, Sqlite> for Opaque<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> diesel::serialize::Result {
        out.set_value(self.0);
        Ok(IsNull::No)
    }
}

impl ToSql<Binary, Sqlite> for Joined {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> diesel::serialize::Result {
        out.set_value(self.0.as_slice());
        Ok(IsNull::No)
    }
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Microseconds since 1970-01-01 UTC. What is finer is cut.
pub(crate) fn micros(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000_000 + i64::from(time.microsecond())
}
