//! The inbox's migrations of SQLite. The functions whose names end with `_sync` block. Cancellation is as in
//! [`crate::migrations::sqlite`].

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use outbox_core::ports::StorageError;

use super::{matches_expected, target};
use crate::inbox::InboxTables;
use crate::migrations::sqlite::{down_to, found_version, status_of_target, up_to};
use crate::migrations::{AppliedMigration, Migration, MigrationError, MigrationStatus, PendingRows};
use crate::sqlite::storage_error;

/// The migrations, ascending, with tokens that [`InboxTables::render`] replaces.
pub const MIGRATIONS: &[Migration] = super::catalog::SQLITE;

/// Applies every migration up to `to` that is missing; [`EXPECTED_INBOX_VERSION`](super::EXPECTED_INBOX_VERSION) is what the inbox
/// needs.
///
/// # Errors
///
/// As [`up_sync`].
pub async fn up(conn: &mut Wrapped, tables: &InboxTables, to: i32) -> Result<Vec<AppliedMigration>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(up_sync(conn, &tables, to))).await?
}

/// Reverts every migration above `to`; 0 removes the inbox and its version table. **What was processed is forgotten**: a message that is
/// delivered again is applied again.
///
/// # Errors
///
/// As [`down_sync`].
pub async fn down(
    conn: &mut Wrapped,
    tables: &InboxTables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(down_sync(conn, &tables, to, rows))).await?
}

/// Every migration that is known or applied, ascending.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(conn: &mut Wrapped, tables: &InboxTables) -> Result<Vec<MigrationStatus>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(status_sync(conn, &tables))).await?
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// As [`verify_sync`].
pub async fn verify(conn: &mut Wrapped, tables: &InboxTables) -> Result<(), StorageError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(verify_sync(conn, &tables)))
        .await
        .map_err(|error| storage_error("read the schema version", error))?
}

type Wrapped = SyncConnectionWrapper<SqliteConnection>;

/// [`up`] on a synchronous connection.
///
/// # Errors
///
/// A [`MigrationError`]; the migrations before the one that failed stay applied.
pub fn up_sync(
    conn: &mut SqliteConnection,
    tables: &InboxTables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    up_to(conn, &target(tables, MIGRATIONS), to)
}

/// [`down`] on a synchronous connection.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when held messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub fn down_sync(
    conn: &mut SqliteConnection,
    tables: &InboxTables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    down_to(conn, &target(tables, MIGRATIONS), to, rows)
}

/// [`status`] on a synchronous connection.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub fn status_sync(conn: &mut SqliteConnection, tables: &InboxTables) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &target(tables, MIGRATIONS))
}

/// [`verify`] on a synchronous connection.
///
/// # Errors
///
/// As [`crate::migrations::sqlite::verify_sync`].
pub fn verify_sync(conn: &mut SqliteConnection, tables: &InboxTables) -> Result<(), StorageError> {
    matches_expected(found_version(conn, tables.names())?, tables)
}
