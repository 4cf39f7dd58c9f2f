use crate::migrations::{Backend, Migration};

/// The inbox's migrations of this database, ascending.
pub(super) fn migrations(backend: Backend) -> &'static [Migration] {
    match backend {
        Backend::Postgres => POSTGRES,
        Backend::Mysql => MYSQL,
        Backend::Sqlite => SQLITE,
    }
}

/// The inbox's migrations of PostgreSQL, ascending, with tokens that [`InboxTables::render`](crate::inbox::InboxTables::render) replaces.
pub(super) const POSTGRES: &[Migration] = &[Migration {
    version: 1,
    name: "inbox",
    up: include_str!("../../../migrations/inbox/postgres/0001_inbox/up.sql"),
    down: include_str!("../../../migrations/inbox/postgres/0001_inbox/down.sql"),
}];

/// The inbox's migrations of MySQL and MariaDB, ascending, with tokens that [`InboxTables::render`](crate::inbox::InboxTables::render) replaces.
pub(super) const MYSQL: &[Migration] = &[Migration {
    version: 1,
    name: "inbox",
    up: include_str!("../../../migrations/inbox/mysql/0001_inbox/up.sql"),
    down: include_str!("../../../migrations/inbox/mysql/0001_inbox/down.sql"),
}];

/// The inbox's migrations of SQLite, ascending, with tokens that [`InboxTables::render`](crate::inbox::InboxTables::render) replaces.
pub(super) const SQLITE: &[Migration] = &[Migration {
    version: 1,
    name: "inbox",
    up: include_str!("../../../migrations/inbox/sqlite/0001_inbox/up.sql"),
    down: include_str!("../../../migrations/inbox/sqlite/0001_inbox/down.sql"),
}];
