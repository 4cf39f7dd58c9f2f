use diesel::Connection;
use diesel::mysql::Mysql;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use outbox_core::{Limits, NewMessage, ToMessage};
use uuid::Uuid;

use super::append_rows::{COLUMNS, Rows, parts, values};
use crate::Tables;
use crate::append::{AppendError, check_all};
use crate::migrations::Backend;
use crate::sql::Sql;

/// Appends messages to the outbox in the caller's own transaction on MySQL or MariaDB.
///
/// It never begins or commits a transaction: a message is delivered if and only if the caller commits. Cheap to clone.
///
/// A deadlock (error 1213) ends the whole transaction, also when it happens inside a savepoint; what is executed after it commits
/// by itself. From MariaDB 11.6 on so does error 1020, when a statement locks a row that has changed since the transaction's snapshot.
/// So never go on after an error: let the transaction end, and begin it again.
///
/// The connection's character set must be `utf8mb4`, which Diesel's connections set by themselves.
///
/// ```no_run
/// # async fn example(conn: &mut diesel_async::AsyncMysqlConnection) -> Result<(), Box<dyn std::error::Error>> {
/// use diesel_async::AsyncConnection;
/// use outbox_core::NewMessage;
/// use outbox_diesel::mysql::MysqlOutbox;
///
/// let outbox = MysqlOutbox::default();
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
pub struct MysqlOutbox {
    limits: Limits,
    insert: String,
    one: String,
}

impl Default for MysqlOutbox {
    fn default() -> Self {
        Self::new(Tables::default())
    }
}

impl MysqlOutbox {
    /// An outbox with these tables and the default [`Limits`].
    pub fn new(tables: Tables) -> Self {
        let insert = format!("INSERT INTO {} ({COLUMNS}) VALUES ", tables.for_backend(Backend::Mysql).messages());
        Self { limits: Limits::default(), one: format!("{insert}{}", values(1)), insert }
    }

    /// Replaces the limits of a message. The server's `max_allowed_packet` (16 MiB on MariaDB and 64 MiB on MySQL unless it is set)
    /// is a limit too: it closes the connection of who sends more.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Appends one message or typed event, and returns its id. `conn` is any diesel-async connection of MySQL, pooled or not. It is
    /// one statement, prepared once a connection.
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
        C: AsyncConnectionCore<Backend = Mysql>,
    {
        let message = item.to_message()?;
        self.limits.check(&message)?;
        Sql::<_>::new(&self.one, Rows::of(std::slice::from_ref(&message))).execute(conn).await?;
        Ok(message.id)
    }

    /// Appends messages in their order, and returns their ids: with one statement up to 100 messages and 256 KiB, with one for each
    /// such part otherwise. Call it inside a transaction: without one each part commits by itself.
    ///
    /// The parts are small because the relay's order rule counts on a row being in the table at most 0.25 s after the server drew its
    /// `seq`, and InnoDB draws those of all rows of a statement when the statement begins.
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
        C: AsyncConnectionCore<Backend = Mysql>,
    {
        check_all(&self.limits, messages)?;
        for part in parts(messages) {
            Sql::<_>::new(&self.text(part), Rows::of(part)).execute(conn).await?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }

    /// [`append`](Self::append) on any synchronous Diesel connection of MySQL. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_sync<C>(&self, conn: &mut C, item: &impl ToMessage) -> Result<Uuid, AppendError>
    where
        C: Connection<Backend = Mysql>,
    {
        let message = item.to_message()?;
        self.limits.check(&message)?;
        conn.execute_returning_count(&Sql::<_>::new(&self.one, Rows::of(std::slice::from_ref(&message))))?;
        Ok(message.id)
    }

    /// [`append_all`](Self::append_all) on any synchronous Diesel connection of MySQL. Blocks.
    ///
    /// # Errors
    ///
    /// As [`append_all`](Self::append_all).
    pub fn append_all_sync<C>(&self, conn: &mut C, messages: &[NewMessage]) -> Result<Vec<Uuid>, AppendError>
    where
        C: Connection<Backend = Mysql>,
    {
        check_all(&self.limits, messages)?;
        for part in parts(messages) {
            conn.execute_returning_count(&Sql::<_>::new(&self.text(part), Rows::of(part)))?;
        }
        Ok(messages.iter().map(|message| message.id).collect())
    }

    fn text(&self, part: &[NewMessage]) -> String {
        format!("{}{}", self.insert, values(part.len()))
    }
}
