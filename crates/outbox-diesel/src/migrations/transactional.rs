//! What the runners share on databases where DDL is transactional.

use super::{AppliedMigration, EXPECTED_VERSION, MigrationError};

/// How far one transaction of a migration run got.
pub(super) enum Progress {
    /// One migration was applied or reverted; there may be more.
    Step(AppliedMigration),
    /// There is nothing left to do.
    Done,
}

/// The version found, when this program may work on it.
pub(super) fn known_version(found: i32) -> Result<i32, MigrationError> {
    if found > EXPECTED_VERSION { Err(MigrationError::Newer { found }) } else { Ok(found) }
}

/// Pending messages and dead letters, each counted up to 10,000.
pub(super) const COUNT_ROWS: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM {{messages}} LIMIT 10000) AS m), \
     (SELECT count(*) FROM (SELECT 1 FROM {{dead_letters}} LIMIT 10000) AS d)";
