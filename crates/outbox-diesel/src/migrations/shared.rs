//! What the runners of all databases share.

use outbox_core::ports::{StorageError, StorageErrorKind};
use time::OffsetDateTime;

use super::{EXPECTED_VERSION, Migration, MigrationStatus};
use crate::{DEFAULT_PREFIX, Tables};

/// Joins the known migrations with the rows (version, name, microseconds since 1970) of the version table.
pub(super) fn status_of(migrations: &[Migration], applied: Vec<(i32, String, i64)>) -> Vec<MigrationStatus> {
    let newest = migrations.last().map_or(0, |known| known.version);
    let time = |micros: i64| OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok();
    let mut all: Vec<_> = migrations
        .iter()
        .map(|known| MigrationStatus {
            version: known.version,
            name: known.name.to_owned(),
            applied_at: applied.iter().find(|row| row.0 == known.version).and_then(|row| time(row.2)),
            unfinished: None,
        })
        .collect();
    let newer = applied.into_iter().filter(|row| row.0 > newest);
    all.extend(newer.map(|(version, name, micros)| MigrationStatus {
        version,
        name,
        applied_at: time(micros),
        unfinished: None,
    }));
    all
}

/// Whether a schema of version `found` is the expected one; if not, what to run.
pub(super) fn matches_expected(found: i32, tables: &Tables) -> Result<(), StorageError> {
    let place = place(tables);
    let problem = match found {
        EXPECTED_VERSION => return Ok(()),
        0 => format!("there are no outbox tables ({} is missing)", tables.versions()),
        found if found < EXPECTED_VERSION => {
            format!("the outbox schema has version {found}, this program needs {EXPECTED_VERSION}")
        }
        found => {
            return Err(StorageError::new(
                StorageErrorKind::Refused,
                format!(
                    "the outbox schema has version {found}, this program needs {EXPECTED_VERSION}: use a newer program, or \
                     go back with that one's `outbox migrate down --to {EXPECTED_VERSION} --database URL{place}`"
                ),
            ));
        }
    };
    Err(StorageError::new(
        StorageErrorKind::Refused,
        format!("{problem}: run `outbox migrate up --database URL{place}`"),
    ))
}

/// The options of a command that name these tables.
pub(super) fn place(tables: &Tables) -> String {
    let mut place = String::new();
    if let Some(schema) = tables.schema() {
        place.push_str(&format!(" --schema {schema}"));
    }
    if tables.prefix() != DEFAULT_PREFIX {
        place.push_str(&format!(" --table-prefix {}", tables.prefix()));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::super::Backend;
    use super::*;

    #[test]
    fn a_missing_schema_names_the_command_with_its_tables() {
        let tables = Tables::new(Some("shop"), "x_").unwrap();
        let error = matches_expected(0, &tables).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Refused);
        assert_eq!(
            error.to_string(),
            "there are no outbox tables (\"shop\".\"x_schema\" is missing): \
             run `outbox migrate up --database URL --schema shop --table-prefix x_`"
        );
    }

    #[test]
    fn a_newer_schema_asks_for_a_newer_program() {
        let error = matches_expected(EXPECTED_VERSION + 1, &Tables::default()).unwrap_err().to_string();
        assert!(error.contains("use a newer program"), "{error}");
    }

    #[test]
    fn an_applied_migration_that_is_not_known_is_listed() {
        let status = status_of(Backend::Sqlite.migrations(), vec![(1, "outbox".into(), 0), (7, "later".into(), 0)]);
        assert_eq!(status.iter().map(|row| row.version).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(status[0].applied_at, Some(OffsetDateTime::UNIX_EPOCH));
    }
}
