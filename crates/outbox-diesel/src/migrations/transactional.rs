//! What the runners share on databases where DDL is transactional.

use super::catalog::between;
use super::{AppliedMigration, Backend, Migration, MigrationError};
use crate::Tables;

/// How far one transaction of a migration run got.
pub(super) enum Progress {
    /// One migration was applied or reverted; there may be more.
    Step(AppliedMigration),
    /// There is nothing left to do.
    Done,
}

/// Whose migrations run: the outbox's, or the inbox's.
pub(crate) struct Target<'t> {
    pub(super) tables: &'t Tables,
    pub(super) migrations: &'static [Migration],
    /// Replaces the tokens of a migration by names.
    pub(super) render: fn(&Tables, &str) -> String,
    /// Tables whose rows must not get lost by going down: locked where the transaction's own lock does not keep writers away.
    #[cfg(feature = "postgres")]
    pub(super) kept: &'static str,
    /// Counts them: two numbers, each up to 10,000.
    pub(super) count: &'static str,
}

impl<'t> Target<'t> {
    #[cfg(feature = "inbox")]
    pub(crate) fn inbox(
        tables: &'t Tables,
        migrations: &'static [Migration],
        render: fn(&Tables, &str) -> String,
        count: &'static str,
    ) -> Self {
        Self {
            tables,
            migrations,
            render,
            #[cfg(feature = "postgres")]
            kept: "{{held}}, {{dead_letters}}",
            count,
        }
    }

    pub(super) fn outbox(backend: Backend, tables: &'t Tables) -> Self {
        Self {
            tables,
            migrations: backend.migrations(),
            render: Tables::render,
            #[cfg(feature = "postgres")]
            kept: "{{messages}}, {{dead_letters}}",
            count: COUNT_ROWS,
        }
    }

    pub(super) fn rendered(&self, sql: &str) -> String {
        (self.render)(self.tables, sql)
    }

    /// The migrations with `after < version <= upto`, ascending.
    pub(super) fn between(&self, after: i32, upto: i32) -> impl DoubleEndedIterator<Item = &'static Migration> {
        between(self.migrations, after, upto)
    }

    /// The version found, when this program may work on it.
    pub(super) fn known_version(&self, found: i32) -> Result<i32, MigrationError> {
        if found > self.newest() { Err(MigrationError::Newer { found }) } else { Ok(found) }
    }

    /// A target version that exists.
    pub(super) fn known_target(&self, requested: i32) -> Result<i32, MigrationError> {
        if (0..=self.newest()).contains(&requested) {
            Ok(requested)
        } else {
            Err(MigrationError::UnknownVersion { requested })
        }
    }

    fn newest(&self) -> i32 {
        self.migrations.last().map_or(0, |migration| migration.version)
    }
}

/// Pending messages and dead letters, each counted up to 10,000.
const COUNT_ROWS: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM {{messages}} LIMIT 10000) AS m), \
     (SELECT count(*) FROM (SELECT 1 FROM {{dead_letters}} LIMIT 10000) AS d)";
