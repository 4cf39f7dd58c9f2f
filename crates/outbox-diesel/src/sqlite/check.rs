use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::ports::{StorageError, StorageErrorKind, StorageProfile};

use super::storage_error;
use crate::sql::{Sql, bind};
use crate::{Tables, migrations};

/// Checks the schema's version, that the file can be written, and the sequence against the rows that exist.
pub(super) fn check(conn: &mut SqliteConnection, tables: &Tables) -> Result<StorageProfile, StorageError> {
    migrations::sqlite::verify_sync(conn, tables)?;
    // SQLite opens a file that cannot be written for reading, and says so at the first statement that would write.
    conn.batch_execute(
        &tables.render("BEGIN IMMEDIATE; UPDATE {{leases}} SET epoch = epoch WHERE shard < 0; ROLLBACK"),
    )
    .map_err(|error| storage_error("write to the SQLite database", error))?;
    sequence_is_ahead(conn, tables)?;
    let version = Sql::<_, Text>::new("SELECT sqlite_version()", ())
        .get_result::<String>(conn)
        .map_err(|error| storage_error("read the version of SQLite", error))?;
    Ok(StorageProfile { shards: 1, server: format!("SQLite {version}") })
}

/// AUTOINCREMENT never gives a number twice unless somebody sets its counter back. A message with a number below those
/// that the relay passed would wait for the sweep, out of order.
fn sequence_is_ahead(conn: &mut SqliteConnection, tables: &Tables) -> Result<(), StorageError> {
    let name = format!("{}messages", tables.prefix());
    let text = tables.render(
        "SELECT coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = ?1), 0), \
         max(coalesce((SELECT max(seq) FROM {{messages}}), 0), coalesce((SELECT max(seq) FROM {{dead_letters}}), 0))",
    );
    let (counter, highest) = Sql::<_, (BigInt, BigInt)>::new(&text, (bind::<Text, _>(name.as_str()),))
        .get_result::<(i64, i64)>(conn)
        .map_err(|error| storage_error("compare the sequence with the rows", error))?;
    if counter >= highest {
        return Ok(());
    }
    Err(StorageError::new(
        StorageErrorKind::Refused,
        format!(
            "the sequence of {name} is at {counter}, behind its highest row {highest}: run \
             `DELETE FROM sqlite_sequence WHERE name = '{name}'; \
             INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {highest})`"
        ),
    ))
}
