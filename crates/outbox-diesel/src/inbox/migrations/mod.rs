//! The inbox's own migrations: plain SQL in `migrations/inbox/<backend>/NNNN_name/{up,down}.sql`, with a version table of their own,
//! applied by the runner of the outbox's.

mod catalog;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod print;
#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use outbox_core::ports::{StorageError, StorageErrorKind};

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use super::InboxTables;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::migrations::{Migration, transactional::Target};

pub use print::{print_down, print_up};

/// The version of the inbox's schema that this program works with: it refuses any other.
pub const EXPECTED_INBOX_VERSION: i32 = 1;

/// Held messages and dead letters, each counted up to 10,000.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const COUNT_ROWS: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM {{held}} LIMIT 10000) AS h), \
     (SELECT count(*) FROM (SELECT 1 FROM {{dead_letters}} LIMIT 10000) AS d)";

#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn target<'t>(tables: &'t InboxTables, migrations: &'static [Migration]) -> Target<'t> {
    Target::inbox(tables.names(), migrations, super::tables::render, COUNT_ROWS)
}

/// Whether a schema of version `found` is the expected one; if not, what to do.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn matches_expected(found: i32, tables: &InboxTables) -> Result<(), StorageError> {
    let versions = tables.versions();
    let problem = match found {
        EXPECTED_INBOX_VERSION => return Ok(()),
        0 => format!("there are no inbox tables ({versions} is missing): run the migrations of outbox_diesel::inbox"),
        found if found < EXPECTED_INBOX_VERSION => format!(
            "the inbox schema of {versions} has version {found}, this program needs {EXPECTED_INBOX_VERSION}: run the migrations of \
             outbox_diesel::inbox"
        ),
        found => format!(
            "the inbox schema of {versions} has version {found}, this program needs {EXPECTED_INBOX_VERSION}: use a newer program"
        ),
    };
    Err(StorageError::new(StorageErrorKind::Refused, problem))
}
