use crate::Tables;
use crate::migrations::catalog::{between, known_target, newest};
use crate::migrations::{Backend, Migration, MigrationError};

/// Whose migrations run: the outbox's, or the inbox's.
pub(crate) struct Target {
    pub(super) tables: Tables,
    pub(super) migrations: &'static [Migration],
    /// Replaces the tokens of a migration by names.
    pub(super) render: fn(&Tables, &str) -> String,
    /// The names after the prefix of all tables but the version table.
    pub(super) all: &'static [&'static str],
    /// The table of messages that must not get lost by going down, beside `dead_letters`.
    pub(super) pending: &'static str,
}

impl Target {
    pub(super) fn outbox(tables: &Tables) -> Self {
        Self {
            tables: tables.for_backend(Backend::Mysql),
            migrations: Backend::Mysql.migrations(),
            render: Tables::render,
            all: &["messages", "leases", "relays", "dead_letters", "parked_keys"],
            pending: "messages",
        }
    }

    #[cfg(feature = "inbox")]
    pub(crate) fn inbox(
        tables: &Tables,
        migrations: &'static [Migration],
        render: fn(&Tables, &str) -> String,
        all: &'static [&'static str],
    ) -> Self {
        Self { tables: tables.for_backend(Backend::Mysql), migrations, render, all, pending: "held" }
    }

    pub(super) fn rendered(&self, sql: &str) -> String {
        (self.render)(&self.tables, sql)
    }

    /// The full name of a table by its name after the prefix.
    pub(super) fn table(&self, name: &str) -> String {
        self.rendered(&format!("{{{{{name}}}}}"))
    }

    /// The migrations with `after < version <= upto`, ascending.
    pub(super) fn between(&self, after: i32, upto: i32) -> impl DoubleEndedIterator<Item = &'static Migration> {
        between(self.migrations, after, upto)
    }

    /// A target version that exists.
    pub(super) fn known_target(&self, requested: i32) -> Result<i32, MigrationError> {
        known_target(self.migrations, requested)
    }

    pub(super) fn newest(&self) -> i32 {
        newest(self.migrations)
    }
}
