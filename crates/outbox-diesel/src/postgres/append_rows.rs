//! Messages as binds of the insert statements.

use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::serialize::{Output, ToSql};
use diesel::sql_types::{Array, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use outbox_core::NewMessage;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::append::{Opaque, headers_json};
use crate::sql::Binds;

/// One message, a bind a column.
pub(super) struct Row<'a> {
    message: &'a NewMessage,
    payload: Opaque<'a>,
    headers: String,
    occurred_at: Option<PgTimestamp>,
    available_at: Option<PgTimestamp>,
}

/// Many messages, an array a column.
pub(super) struct Columns<'a> {
    ids: Vec<Uuid>,
    aggregate_types: Vec<&'a str>,
    aggregate_ids: Vec<Option<&'a str>>,
    event_types: Vec<&'a str>,
    payloads: Vec<Opaque<'a>>,
    content_types: Vec<&'a str>,
    headers: Vec<String>,
    occurred_at: Vec<Option<PgTimestamp>>,
    available_at: Vec<Option<PgTimestamp>>,
}

impl<'a> Row<'a> {
    pub(super) fn of(message: &'a NewMessage) -> Self {
        Self {
            message,
            payload: Opaque(message.payload.as_ref()),
            headers: headers_json(message),
            occurred_at: message.occurred_at.map(timestamp),
            available_at: message.available_at.map(timestamp),
        }
    }
}

impl<'a> Columns<'a> {
    pub(super) fn of(messages: &'a [NewMessage]) -> Self {
        Self {
            ids: messages.iter().map(|message| message.id).collect(),
            aggregate_types: messages.iter().map(|message| message.aggregate_type.as_str()).collect(),
            aggregate_ids: messages.iter().map(|message| message.aggregate_id.as_deref()).collect(),
            event_types: messages.iter().map(|message| message.event_type.as_str()).collect(),
            payloads: messages.iter().map(|message| Opaque(message.payload.as_ref())).collect(),
            content_types: messages.iter().map(|message| message.content_type.as_str()).collect(),
            headers: messages.iter().map(headers_json).collect(),
            occurred_at: messages.iter().map(|message| message.occurred_at.map(timestamp)).collect(),
            available_at: messages.iter().map(|message| message.available_at.map(timestamp)).collect(),
        }
    }
}

impl Binds<Pg> for Row<'_> {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_bind_param_value_only::<SqlUuid, _>(&self.message.id)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.aggregate_type)?;
        pass.push_bind_param_value_only::<Nullable<Text>, _>(&self.message.aggregate_id)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.event_type)?;
        pass.push_bind_param_value_only::<Binary, _>(&self.payload)?;
        pass.push_bind_param_value_only::<Text, _>(&self.message.content_type)?;
        pass.push_bind_param_value_only::<Text, _>(&self.headers)?;
        pass.push_bind_param_value_only::<Nullable<Timestamptz>, _>(&self.occurred_at)?;
        pass.push_bind_param_value_only::<Nullable<Timestamptz>, _>(&self.available_at)
    }
}

impl Binds<Pg> for Columns<'_> {
    fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_bind_param_value_only::<Array<SqlUuid>, _>(&self.ids)?;
        pass.push_bind_param_value_only::<Array<Text>, _>(&self.aggregate_types)?;
        pass.push_bind_param_value_only::<Array<Nullable<Text>>, _>(&self.aggregate_ids)?;
        pass.push_bind_param_value_only::<Array<Text>, _>(&self.event_types)?;
        pass.push_bind_param_value_only::<Array<Binary>, _>(&self.payloads)?;
        pass.push_bind_param_value_only::<Array<Text>, _>(&self.content_types)?;
        pass.push_bind_param_value_only::<Array<Text>, _>(&self.headers)?;
        pass.push_bind_param_value_only::<Array<Nullable<Timestamptz>>, _>(&self.occurred_at)?;
        pass.push_bind_param_value_only::<Array<Nullable<Timestamptz>>, _>(&self.available_at)
    }
}

impl ToSql<Binary, Pg> for Opaque<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> diesel::serialize::Result {
        <[u8] as ToSql<Binary, Pg>>::to_sql(self.0, out)
    }
}

/// PostgreSQL counts microseconds from 2000-01-01. What is finer than a microsecond is cut.
fn timestamp(time: OffsetDateTime) -> PgTimestamp {
    const EPOCH_2000_SECONDS: i64 = 946_684_800;
    PgTimestamp((time.unix_timestamp() - EPOCH_2000_SECONDS) * 1_000_000 + i64::from(time.microsecond()))
}
