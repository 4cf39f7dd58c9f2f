use std::fmt::Write;

use super::catalog::{between, known_target};
use super::{Backend, Migration, MigrationError};
use crate::Tables;

/// The SQL that leads from schema version `from` (0: nothing) to `to`, for people who run migrations with another tool. It
/// writes the version table too, so that the relay recognizes the schema.
///
/// The text holds no `BEGIN`: tools bring their own transaction. On PostgreSQL run it as one transaction. On MySQL, where DDL is
/// not transactional, it can be run again when it stopped before its end.
///
/// # Errors
///
/// [`MigrationError::UnknownVersion`] for a version that does not exist.
///
/// ```
/// use outbox_diesel::{Tables, migrations::{Backend, EXPECTED_VERSION, print_up}};
///
/// let sql = print_up(Backend::Sqlite, &Tables::default(), 0, EXPECTED_VERSION)?;
/// assert!(sql.contains(r#"CREATE TABLE "outbox_messages""#));
/// # Ok::<(), outbox_diesel::migrations::MigrationError>(())
/// ```
pub fn print_up(backend: Backend, tables: &Tables, from: i32, to: i32) -> Result<String, MigrationError> {
    up(backend, tables, backend.migrations(), Tables::render, from, to)
}

/// [`print_up`] of any migrations, whose tokens `render` replaces.
pub(crate) fn up(
    backend: Backend,
    tables: &Tables,
    all: &'static [Migration],
    render: fn(&Tables, &str) -> String,
    from: i32,
    to: i32,
) -> Result<String, MigrationError> {
    let (from, to) = (known_target(all, from)?, known_target(all, to)?);
    let tables = &tables.for_backend(backend);
    let mut sql = String::new();
    if from == 0 && to > 0 {
        match (backend, tables.schema()) {
            (Backend::Postgres, Some(schema)) => push(&mut sql, &format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";")),
            (Backend::Mysql, Some(schema)) => push(&mut sql, &format!("CREATE DATABASE IF NOT EXISTS `{schema}`;")),
            _ => {}
        }
        push(&mut sql, &format!("{};", tables.render(create_versions(backend))));
    }
    for migration in between(all, from, to) {
        push(&mut sql, &format!("-- Version {}: {}", migration.version, migration.name));
        push(&mut sql, &render(tables, migration.up));
        push(
            &mut sql,
            &format!(
                "INSERT INTO {} (version, name) VALUES ({}, '{}');",
                tables.versions(),
                migration.version,
                migration.name
            ),
        );
    }
    Ok(sql)
}

/// The SQL that leads back from schema version `from` to `to` (0: nothing is left). **It deletes what the tables hold.**
///
/// # Errors
///
/// [`MigrationError::UnknownVersion`] for a version that does not exist.
pub fn print_down(backend: Backend, tables: &Tables, from: i32, to: i32) -> Result<String, MigrationError> {
    down(backend, tables, backend.migrations(), Tables::render, from, to)
}

/// [`print_down`] of any migrations, whose tokens `render` replaces.
pub(crate) fn down(
    backend: Backend,
    tables: &Tables,
    all: &'static [Migration],
    render: fn(&Tables, &str) -> String,
    from: i32,
    to: i32,
) -> Result<String, MigrationError> {
    let (from, to) = (known_target(all, from)?, known_target(all, to)?);
    let tables = &tables.for_backend(backend);
    let mut sql = String::new();
    for migration in between(all, to, from).rev() {
        push(&mut sql, &format!("-- Back from version {}: {}", migration.version, migration.name));
        push(&mut sql, &render(tables, migration.down));
        push(&mut sql, &format!("DELETE FROM {} WHERE version = {};", tables.versions(), migration.version));
    }
    if to == 0 && from > 0 {
        push(&mut sql, &format!("DROP TABLE {};", tables.versions()));
    }
    Ok(sql)
}

/// Creates the version table, unless it exists.
pub(super) fn create_versions(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => {
            "CREATE TABLE IF NOT EXISTS {{versions}} (\n    version integer PRIMARY KEY,\n    name text NOT NULL,\n    \
             applied_at timestamptz NOT NULL DEFAULT clock_timestamp()\n)"
        }
        // Of a migration that runs, `applied_at` is NULL, and `step` counts its statements that are done.
        Backend::Mysql => {
            "CREATE TABLE IF NOT EXISTS {{versions}} (\n    version integer NOT NULL,\n    name varchar(255) NOT NULL,\n    \
             applied_at datetime(6) DEFAULT (utc_timestamp(6)),\n    \
             direction varchar(4) NOT NULL DEFAULT 'up',\n    step integer NOT NULL DEFAULT 0,\n    \
             PRIMARY KEY (version)\n) \
             ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"
        }
        Backend::Sqlite => {
            "CREATE TABLE IF NOT EXISTS {{versions}} (\n    version INTEGER PRIMARY KEY,\n    name TEXT NOT NULL,\n    \
             applied_at INTEGER NOT NULL\n        \
             DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)\n)"
        }
    }
}

fn push(sql: &mut String, part: &str) {
    let _ = writeln!(sql, "{}\n", part.trim_end());
}
