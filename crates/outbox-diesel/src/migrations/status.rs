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
    /// Where it stands when it stopped half-way, which happens on MySQL only: DDL is not transactional there.
    pub unfinished: Option<Unfinished>,
}

/// Where a migration stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Where it was going to.
    pub direction: Direction,
    /// Its statements that are done; the one after them may be done too.
    pub done: usize,
    /// Its statements.
    pub of: usize,
}

/// The way of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It was being applied.
    Up,
    /// It was being reverted.
    Down,
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} stopped after {} of {} statements", self.direction, self.done, self.of)
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
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
