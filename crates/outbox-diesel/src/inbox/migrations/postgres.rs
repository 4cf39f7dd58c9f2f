//! The inbox's migrations of PostgreSQL. Cancellation is as in [`crate::migrations::postgres`].

use diesel_async::AsyncPgConnection;
use outbox_core::ports::StorageError;

use super::{matches_expected, target};
use crate::inbox::InboxTables;
use crate::migrations::postgres::{down_to, found_version, status_of_target, up_to};
use crate::migrations::{AppliedMigration, Migration, MigrationError, MigrationStatus, PendingRows};

/// The migrations, ascending, with tokens that [`InboxTables::render`] replaces.
pub const MIGRATIONS: &[Migration] = super::catalog::POSTGRES;

/// Applies every migration up to `to` that is missing; [`EXPECTED_INBOX_VERSION`](super::EXPECTED_INBOX_VERSION) is what the inbox
/// needs. Creates the schema of `tables` when it does not exist.
///
/// # Errors
///
/// A [`MigrationError`]; the migrations before the one that failed stay applied.
pub async fn up(
    conn: &mut AsyncPgConnection,
    tables: &InboxTables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    up_to(conn, &target(tables, MIGRATIONS), to).await
}

/// Reverts every migration above `to`; 0 removes the inbox and its version table, and leaves the schema. **What was processed is
/// forgotten**: a message that is delivered again is applied again.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when held messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub async fn down(
    conn: &mut AsyncPgConnection,
    tables: &InboxTables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    down_to(conn, &target(tables, MIGRATIONS), to, rows).await
}

/// Every migration that is known or applied, ascending.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(
    conn: &mut AsyncPgConnection,
    tables: &InboxTables,
) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &target(tables, MIGRATIONS)).await
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// As [`crate::migrations::postgres::verify`].
pub async fn verify(conn: &mut AsyncPgConnection, tables: &InboxTables) -> Result<(), StorageError> {
    matches_expected(found_version(conn, tables.names()).await?, tables)
}
