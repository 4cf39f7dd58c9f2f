//! The inbox's migrations of MySQL and MariaDB. What stopped half-way goes on with the next call, and cancellation is as in
//! [`crate::migrations::mysql`].

use diesel_async::AsyncMysqlConnection;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::matches_expected;
use crate::inbox::{InboxTables, tables};
use crate::migrations::mysql::{Found, Target, down_to, found_version, status_of_target, up_to};
use crate::migrations::{AppliedMigration, Migration, MigrationError, MigrationStatus, PendingRows};

/// The migrations, ascending, with tokens that [`InboxTables::render`] replaces.
pub const MIGRATIONS: &[Migration] = super::catalog::MYSQL;

/// Applies every migration up to `to` that is missing, also one that stopped half-way;
/// [`EXPECTED_INBOX_VERSION`](super::EXPECTED_INBOX_VERSION) is what the inbox needs. Creates the database that is the schema of `tables`
/// when it does not exist.
///
/// # Errors
///
/// A [`MigrationError`]; what was done stays, and the next call goes on after it.
pub async fn up(
    conn: &mut AsyncMysqlConnection,
    tables: &InboxTables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    up_to(conn, &target(tables), to).await
}

/// Reverts every migration above `to`, also one that stopped half-way; 0 removes the inbox and its version table, and leaves the database.
/// **What was processed is forgotten**: a message that is delivered again is applied again.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when held messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub async fn down(
    conn: &mut AsyncMysqlConnection,
    tables: &InboxTables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    down_to(conn, &target(tables), to, rows).await
}

/// Every migration that is known or applied, ascending, with where it stands when it stopped half-way.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(
    conn: &mut AsyncMysqlConnection,
    tables: &InboxTables,
) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &target(tables)).await
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// As [`crate::migrations::mysql::verify`].
pub async fn verify(conn: &mut AsyncMysqlConnection, tables: &InboxTables) -> Result<(), StorageError> {
    match found_version(conn, &target(tables)).await? {
        Found::Version(found) => matches_expected(found, tables),
        Found::Unfinished(version, at) => Err(StorageError::new(
            StorageErrorKind::Refused,
            format!(
                "migration {version} of the inbox schema of {} is not finished ({at}): run `{}` of outbox_diesel::inbox::migrations::mysql",
                tables.versions(),
                at.direction
            ),
        )),
    }
}

fn target(tables: &InboxTables) -> Target {
    const ALL: &[&str] = &["messages", "held", "parked_keys", "dead_letters", "positions", "horizons"];
    Target::inbox(tables.names(), MIGRATIONS, tables::render, ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_can_be_run_again() {
        for Migration { up, down, .. } in MIGRATIONS {
            for line in up.lines().chain(down.lines()) {
                let makes = line.starts_with("CREATE") && !line.contains("IF NOT EXISTS");
                let drops = line.starts_with("DROP") && !line.contains("IF EXISTS");
                assert!(!makes && !drops, "{line}");
            }
        }
    }
}
