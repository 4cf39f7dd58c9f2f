use super::MigrationError;

/// The schema version that this program works with: it refuses any other.
pub const EXPECTED_VERSION: i32 = 1;

/// A database that has migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// MySQL 8.0.17 or newer, MariaDB 10.6 or newer.
    Mysql,
    /// SQLite 3.35 or newer.
    Sqlite,
}

/// One step of the schema, with tokens such as `{{messages}}` for the names that [`Tables`](crate::Tables) renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The schema version that it leads to; 1 is the first.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
    /// The SQL that leads to `version`.
    pub up: &'static str,
    /// The SQL that leads back to `version - 1`.
    pub down: &'static str,
}

impl Backend {
    /// The migrations of this database, ascending.
    pub fn migrations(self) -> &'static [Migration] {
        match self {
            Self::Postgres => POSTGRES,
            Self::Mysql => MYSQL,
            Self::Sqlite => SQLITE,
        }
    }
}

/// Those of `all` with `after < version <= upto`, ascending.
pub(super) fn between(
    all: &'static [Migration],
    after: i32,
    upto: i32,
) -> impl DoubleEndedIterator<Item = &'static Migration> {
    all.iter().filter(move |migration| after < migration.version && migration.version <= upto)
}

/// A target version that exists.
pub(super) fn known_target(all: &[Migration], requested: i32) -> Result<i32, MigrationError> {
    if (0..=newest(all)).contains(&requested) {
        Ok(requested)
    } else {
        Err(MigrationError::UnknownVersion { requested })
    }
}

/// The last version.
pub(super) fn newest(all: &[Migration]) -> i32 {
    all.last().map_or(0, |migration| migration.version)
}

const POSTGRES: &[Migration] = &[Migration {
    version: 1,
    name: "outbox",
    up: include_str!("../../migrations/postgres/0001_outbox/up.sql"),
    down: include_str!("../../migrations/postgres/0001_outbox/down.sql"),
}];

const MYSQL: &[Migration] = &[Migration {
    version: 1,
    name: "outbox",
    up: include_str!("../../migrations/mysql/0001_outbox/up.sql"),
    down: include_str!("../../migrations/mysql/0001_outbox/down.sql"),
}];

const SQLITE: &[Migration] = &[Migration {
    version: 1,
    name: "outbox",
    up: include_str!("../../migrations/sqlite/0001_outbox/up.sql"),
    down: include_str!("../../migrations/sqlite/0001_outbox/down.sql"),
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_to_the_expected_version() {
        for backend in [Backend::Postgres, Backend::Mysql, Backend::Sqlite] {
            let versions: Vec<_> = backend.migrations().iter().map(|migration| migration.version).collect();
            assert_eq!(versions, (1..=EXPECTED_VERSION).collect::<Vec<_>>());
        }
    }
}
