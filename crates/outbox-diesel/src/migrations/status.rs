use time::OffsetDateTime;

use super::Migration;

/// A migration, and when it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The schema version that it leads to.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// When it was applied, by the database's clock; `None`: it was not.
    pub applied_at: Option<OffsetDateTime>,
}

/// A migration that `up` applied or `down` reverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedMigration {
    /// The schema version that it leads to.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
}

/// What going down does with messages that are still in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRows {
    /// Refuse to go down: nothing is lost.
    Keep,
    /// Delete them with their tables.
    Delete,
}

impl From<&Migration> for AppliedMigration {
    fn from(migration: &Migration) -> Self {
        Self { version: migration.version, name: migration.name }
    }
}
