use super::catalog::migrations;
use crate::inbox::{InboxTables, tables};
use crate::migrations::{Backend, MigrationError, print};

/// The SQL that leads from version `from` of the inbox's schema (0: nothing) to `to`, for people who run migrations with another tool, as
/// [`crate::migrations::print_up`].
///
/// # Errors
///
/// [`MigrationError::UnknownVersion`] for a version that does not exist.
///
/// ```
/// use outbox_diesel::inbox::{InboxTables, migrations::{EXPECTED_INBOX_VERSION, print_up}};
/// use outbox_diesel::migrations::Backend;
///
/// let sql = print_up(Backend::Mysql, &InboxTables::default(), 0, EXPECTED_INBOX_VERSION)?;
/// assert!(sql.contains("CREATE TABLE IF NOT EXISTS `inbox_messages`"));
/// # Ok::<(), outbox_diesel::migrations::MigrationError>(())
/// ```
pub fn print_up(backend: Backend, tables: &InboxTables, from: i32, to: i32) -> Result<String, MigrationError> {
    print::up(backend, tables.names(), migrations(backend), tables::render, from, to)
}

/// The SQL that leads back from version `from` to `to` (0: nothing is left). **It deletes what the tables hold**: what was processed is
/// forgotten.
///
/// # Errors
///
/// [`MigrationError::UnknownVersion`] for a version that does not exist.
pub fn print_down(backend: Backend, tables: &InboxTables, from: i32, to: i32) -> Result<String, MigrationError> {
    print::down(backend, tables.names(), migrations(backend), tables::render, from, to)
}
