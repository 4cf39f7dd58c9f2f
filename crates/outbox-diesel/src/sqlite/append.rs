use diesel::Connection;
use diesel::sqlite::Sqlite;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use outbox_core::{Limits, NewMessage, ToMessage};
use uuid::Uuid;

use super::append_rows::{Bulk, Row};
use crate::append::{AppendError, check_all};
use crate::sql::Sql;
use crate::{InvalidTables, Tables};

/// Appends messages to the outbox in the caller's own transaction on SQLite.
///
/// It never begins or commits a transaction: a message is delivered if and only if the caller commits. Each call is one
/// statement. Begin transactions that write with `BEGIN IMMEDIATE` (`immediate_transaction`): an upgrade from a read
/// fails as busy whatever the busy time-out. Cheap to clone.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// # let path = path.to_str().unwrap();
/// use outbox_core::NewMessage;
/// use outbox_diesel::{Tables, migrations, sqlite::{SqliteOutbox, establish_sync}};
///
/// let mut conn = establish_sync(path)?;
/// migrations::sqlite::up_sync(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION)?;
/// let outbox = SqliteOutbox::default();
/// conn.immediate_transaction(|conn| {
///     // … the business change on the same `conn` …
///     let placed = NewMessage::new("order", "order.placed", br#"{"total_cents":1250}"#.to_vec()).aggregate_id("7");
///     outbox.append_sync(conn, &placed)
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOutbox {
    limits: Limits,
    one: String,
    many: String,
}

impl Default for SqliteOutbox {
    fn default() -> Self {
        Self::of(&Tables::default())
    }
}

impl SqliteOutbox {
    /// An outbox with these tables and the default [`Limits`].
    ///
    /// # Errors
    ///
    /// [`InvalidTables::SchemaOnSqlite`] when a schema is set.
    pub fn new(tables: Tables) -> Result<Self, InvalidTables> {
        Ok(Self::of(&tables.without_schema()?))
    }

    fn of(tables: &Tables) -> Self {
        Self { limits: Limits::default(), one: tables.render(INSERT_ONE), many: tables.render(INSERT_MANY) }
    }

    /// Replaces the limits of a message.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Appends one message or typed event, and returns its id. `conn` is any diesel-async connection of SQLite, pooled or not.
    ///
    /// # Errors
    ///
    /// [`AppendError::Invalid`] before anything is written: the transaction is as usable as before.
    /// [`AppendError::Database`] otherwise.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves open whether the row is in the caller's transaction: roll it back. Dropping it on a
    /// current-thread runtime panics (a limit of diesel-async's SQLite connection).
    pub async fn append<C>(&self, conn: &mut C, item: &impl ToMessage) -> Result<Uuid, AppendError>
    where
        C: AsyncConnectionCore<Backend = Sqlite>,
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
        C: AsyncConnectionCore<Backend = Sqlite>,
    {
        check_all(&self.limits, messages)?;
        if !messages.is_empty() {
            Sql::<_>::new(&self.many, Bulk::of(messages)).execute(conn).await?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }

    /// [`append`](Self::append) on any synchronous Diesel connection of SQLite. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_sync<C>(&self, conn: &mut C, item: &impl ToMessage) -> Result<Uuid, AppendError>
    where
        C: Connection<Backend = Sqlite>,
    {
        let message = item.to_message()?;
        self.limits.check(&message)?;
        conn.execute_returning_count(&Sql::<_>::new(&self.one, Row::of(&message)))?;
        Ok(message.id)
    }

    /// [`append_all`](Self::append_all) on any synchronous Diesel connection of SQLite. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append_all`](Self::append_all).
    pub fn append_all_sync<C>(&self, conn: &mut C, messages: &[NewMessage]) -> Result<Vec<Uuid>, AppendError>
    where
        C: Connection<Backend = Sqlite>,
    {
        check_all(&self.limits, messages)?;
        if !messages.is_empty() {
            conn.execute_returning_count(&Sql::<_>::new(&self.many, Bulk::of(messages)))?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }
}

const INSERT_ONE: &str = "INSERT INTO {{messages}} (id, aggregate_type, aggregate_id, event_type, payload, \
     content_type, headers, occurred_at, available_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, \
     coalesce(?8, CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000), ?9)";

// Two binds whatever the number of messages: their columns as a JSON array of arrays, and all payloads joined into one
// blob, from which each row cuts its own.
const INSERT_MANY: &str = "INSERT INTO {{messages}} (id, aggregate_type, aggregate_id, event_type, payload, \
     content_type, headers, occurred_at, available_at) \
     SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), \
     json_extract(value, '$[3]'), substr(?2, json_extract(value, '$[4]'), json_extract(value, '$[5]')), \
     json_extract(value, '$[6]'), json_extract(value, '$[7]'), \
     coalesce(json_extract(value, '$[8]'), \
     CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000), \
     json_extract(value, '$[9]') \
     FROM json_each(?1) ORDER BY key";
