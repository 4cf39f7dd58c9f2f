use diesel::Connection;
use diesel::pg::Pg;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use outbox_core::{Limits, NewMessage, ToMessage};
use uuid::Uuid;

use super::append_rows::{Columns, Row};
use crate::Tables;
use crate::append::{AppendError, check_all};
use crate::sql::Sql;

/// Appends messages to the outbox in the caller's own transaction on PostgreSQL.
///
/// It never begins or commits a transaction: a message is delivered if and only if the caller commits. Each call is one
/// statement, prepared once a connection, so `append` and the business statement can be
/// [pipelined](diesel_async::AsyncPgConnection#pipelining). Cheap to clone.
///
/// ```no_run
/// # async fn example(conn: &mut diesel_async::AsyncPgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// use diesel_async::AsyncConnection;
/// use outbox_core::NewMessage;
/// use outbox_diesel::postgres::PostgresOutbox;
///
/// let outbox = PostgresOutbox::default();
/// conn.transaction::<_, Box<dyn std::error::Error + Send + Sync>, _>(async |conn| {
///     // … the business change on the same `conn` …
///     let placed = NewMessage::new("order", "order.placed", br#"{"total_cents":1250}"#.to_vec()).aggregate_id("7");
///     outbox.append(conn, &placed).await?;
///     Ok(())
/// })
/// .await
/// # .map_err(|error| error.to_string())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresOutbox {
    tables: Tables,
    limits: Limits,
    one: String,
    many: String,
}

impl Default for PostgresOutbox {
    fn default() -> Self {
        Self::new(Tables::default())
    }
}

impl PostgresOutbox {
    /// An outbox with these tables, the default [`Limits`] and no `NOTIFY`.
    pub fn new(tables: Tables) -> Self {
        let one = tables.render(INSERT_ONE);
        let many = tables.render(INSERT_MANY);
        Self { tables, limits: Limits::default(), one, many }
    }

    /// Replaces the limits of a message.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Wakes the relay with `NOTIFY` at the commit, in the same statement as the insert.
    ///
    /// Opt-in, because PostgreSQL serializes the commits of all transactions that notify: it saves the relay's polling delay and
    /// costs throughput of many concurrent writers. A connection pooler in transaction mode delivers it too.
    pub fn with_notify(mut self) -> Self {
        let notifying = |insert: &str| {
            format!(
                "WITH appended AS ({insert} RETURNING 1) \
                 SELECT pg_notify('{}', '') FROM (SELECT count(*) FROM appended) AS once",
                self.tables.channel()
            )
        };
        (self.one, self.many) =
            (notifying(&self.tables.render(INSERT_ONE)), notifying(&self.tables.render(INSERT_MANY)));
        self
    }

    /// Appends one message or typed event, and returns its id. `conn` is any diesel-async connection of PostgreSQL, pooled or
    /// not, also `&mut &conn` for pipelining.
    ///
    /// # Errors
    ///
    /// [`AppendError::Invalid`] before anything is sent: the transaction is as usable as before.
    /// [`AppendError::Database`] otherwise: roll the transaction back.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves open whether the row is in the caller's transaction: roll it back.
    pub async fn append<C>(&self, conn: &mut C, item: &impl ToMessage) -> Result<Uuid, AppendError>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        let message = item.to_message()?;
        self.limits.check(&message)?;
        Sql::<_>::new(&self.one, Row::of(&message)).execute(conn).await?;
        Ok(message.id)
    }

    /// Appends messages in their order with one statement, and returns their ids.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); with one invalid message none is appended. All payloads and headers together may have
    /// 256 MiB.
    ///
    /// # Cancellation
    ///
    /// As [`append`](Self::append).
    pub async fn append_all<C>(&self, conn: &mut C, messages: &[NewMessage]) -> Result<Vec<Uuid>, AppendError>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        check_all(&self.limits, messages)?;
        if !messages.is_empty() {
            Sql::<_>::new(&self.many, Columns::of(messages)).execute(conn).await?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }

    /// [`append`](Self::append) on any synchronous Diesel connection of PostgreSQL. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_sync<C>(&self, conn: &mut C, item: &impl ToMessage) -> Result<Uuid, AppendError>
    where
        C: Connection<Backend = Pg>,
    {
        let message = item.to_message()?;
        self.limits.check(&message)?;
        conn.execute_returning_count(&Sql::<_>::new(&self.one, Row::of(&message)))?;
        Ok(message.id)
    }

    /// [`append_all`](Self::append_all) on any synchronous Diesel connection of PostgreSQL. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append_all`](Self::append_all).
    pub fn append_all_sync<C>(&self, conn: &mut C, messages: &[NewMessage]) -> Result<Vec<Uuid>, AppendError>
    where
        C: Connection<Backend = Pg>,
    {
        check_all(&self.limits, messages)?;
        if !messages.is_empty() {
            conn.execute_returning_count(&Sql::<_>::new(&self.many, Columns::of(messages)))?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }
}

// Neither names `seq`: its default takes the transaction's id first, which the relay's order rests on.
const INSERT_ONE: &str = "INSERT INTO {{messages}} (id, aggregate_type, aggregate_id, event_type, payload, \
     content_type, headers, occurred_at, available_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, coalesce($8, clock_timestamp()), $9)";

const INSERT_MANY: &str = "INSERT INTO {{messages}} (id, aggregate_type, aggregate_id, event_type, payload, \
     content_type, headers, occurred_at, available_at) \
     SELECT id, aggregate_type, aggregate_id, event_type, payload, content_type, headers::jsonb, \
     coalesce(occurred_at, clock_timestamp()), available_at \
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY AS row (id, aggregate_type, aggregate_id, \
     event_type, payload, content_type, headers, occurred_at, available_at, place) ORDER BY place";
