//! What the statements have in common. `?1` is the consumer.

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Consumer, ParkedBy};

use crate::inbox::InboxTables;
use crate::inbox::shared::Status;
use crate::sql::{Sql, bind};
use crate::sqlite::sql::NOW;

/// The statement with the names of the tables and `{{now}}`, the database's clock in microseconds since 1970, in steps of a millisecond.
pub(super) fn render(tables: &InboxTables, sql: &str) -> String {
    tables.render(&sql.replace("{{now}}", NOW))
}

/// Where a dead letter or a held message belongs: its identity and its key.
pub(super) type Place = (Option<String>, Option<String>, Option<Vec<u8>>);

/// The types of a [`Place`].
pub(super) type PlaceTypes = (Nullable<Text>, Nullable<Text>, Nullable<Binary>);

/// The columns that held messages and dead letters share, beside `seq`.
pub(super) const SHARED: &str = "consumer, source, id, ordering_key, stream, partition, position, redelivered, sent_at, \
    record_key, headers, payload";

/// Statements that several ports need.
pub(super) struct Common {
    now: String,
    set_message: String,
    park: String,
    unpark: String,
}

impl Common {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            now: render(tables, "SELECT {{now}}"),
            set_message: render(tables, SET_MESSAGE),
            park: render(tables, PARK),
            unpark: render(tables, UNPARK),
        }
    }

    /// The database's clock.
    pub(super) fn now(&self, sqlite: &mut SqliteConnection) -> QueryResult<i64> {
        Sql::<_, BigInt>::new(&self.now, ()).get_result(sqlite)
    }

    /// Sets a dedup row, whatever became of it.
    pub(super) fn set_message(
        &self,
        sqlite: &mut SqliteConnection,
        consumer: &Consumer,
        source: &str,
        id: &str,
        status: Status,
    ) -> QueryResult<()> {
        let (name, source) = (bind::<Text, _>(consumer.as_str()), bind::<Text, _>(source));
        let binds = (name, source, bind::<Text, _>(id), bind::<Text, _>(status.as_str()));
        Sql::<_>::new(&self.set_message, binds).execute(sqlite).map(drop)
    }

    /// Parks a key unless a reason that is as strong has parked it. Whether that changed something.
    pub(super) fn park(
        &self,
        sqlite: &mut SqliteConnection,
        consumer: &Consumer,
        key: &[u8],
        by: ParkedBy,
    ) -> QueryResult<bool> {
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key), bind::<Text, _>(by.as_str()));
        Ok(Sql::<_>::new(&self.park, binds).execute(sqlite)? > 0)
    }

    /// Removes a key that is parked for what is held of it, when that is nothing.
    pub(super) fn unpark(&self, sqlite: &mut SqliteConnection, consumer: &Consumer, key: &[u8]) -> QueryResult<()> {
        let binds = (bind::<Text, _>(consumer.as_str()), bind::<Binary, _>(key));
        Sql::<_>::new(&self.unpark, binds).execute(sqlite).map(drop)
    }
}

const SET_MESSAGE: &str = "INSERT INTO {{messages}} (consumer, source, id, status, processed_at) VALUES (?1, ?2, ?3, ?4, {{now}}) \
    ON CONFLICT (consumer, source, id) DO UPDATE SET status = excluded.status, processed_at = excluded.processed_at";

const PARK: &str = "INSERT INTO {{parked_keys}} AS known (consumer, ordering_key, reason, parked_at) VALUES (?1, ?2, ?3, {{now}}) \
    ON CONFLICT (consumer, ordering_key) DO UPDATE SET reason = excluded.reason \
    WHERE (known.reason = 'held' AND excluded.reason <> 'held') OR (known.reason = 'dead_letter' AND excluded.reason = 'operator')";

const UNPARK: &str = "DELETE FROM {{parked_keys}} WHERE consumer = ?1 AND ordering_key = ?2 AND reason = 'held' \
    AND NOT EXISTS (SELECT 1 FROM {{held}} AS h WHERE h.consumer = ?1 AND h.ordering_key = ?2)";
