use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

/// How long a statement waits for another connection's write lock, in milliseconds.
pub(crate) const BUSY_TIMEOUT_MS: u32 = 5_000;

/// Opens a database file the way the outbox needs it, and makes it when it does not exist. Blocks.
///
/// Takes a path, `sqlite:PATH`, `sqlite://PATH` or a `file:` URI. The connection waits up to 5 s for another one's
/// write lock and uses a write-ahead log (readers and the writer do not stop each other), `synchronous = FULL` (a
/// commit survives a power cut, without which an event could be published whose transaction is gone) and
/// foreign keys.
///
/// # Errors
///
/// [`OpenError`] when the file cannot be opened or cannot have a write-ahead log.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let conn = outbox_diesel::sqlite::establish(path.to_str().unwrap())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn establish(path_or_url: &str) -> Result<SqliteConnection, OpenError> {
    let file = file_of(path_or_url)?;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Open { file: file.to_owned(), source };
    let mut conn = SqliteConnection::establish(file).map_err(|error| failed(error.into()))?;
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA foreign_keys = ON;"
    ))
    .map_err(|error| failed(error.into()))?;
    Ok(conn)
}

/// Why a SQLite database cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// SQLite cannot open the file.
    #[error("cannot open the SQLite database {file}: check that its folder exists and is writable")]
    Open {
        /// The file, without credentials (SQLite has none).
        file: String,
        /// What SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A relay needs an outbox that is there already.
    #[error("the SQLite database {file} does not exist: run `outbox migrate up --database {file}`")]
    Missing {
        /// The file.
        file: String,
    },
    /// An in-memory database cannot be shared with a relay.
    #[error("{value:?} is an in-memory database, which each connection has for itself: use a file")]
    InMemory {
        /// What was given.
        value: String,
    },
    /// The tables cannot be SQLite's.
    #[error(transparent)]
    Tables(#[from] crate::InvalidTables),
}

/// The same file again, when it exists.
pub(crate) fn existing(path_or_url: &str) -> Result<&str, OpenError> {
    let file = file_of(path_or_url)?;
    if file.starts_with("file:") || Path::new(file).exists() {
        Ok(file)
    } else {
        Err(OpenError::Missing { file: file.to_owned() })
    }
}

fn file_of(path_or_url: &str) -> Result<&str, OpenError> {
    let file = path_or_url.strip_prefix("sqlite:").unwrap_or(path_or_url);
    let file = if path_or_url.len() == file.len() { file } else { file.strip_prefix("//").unwrap_or(file) };
    if file.is_empty() || file.contains(":memory:") || (file.starts_with("file:") && file.contains("mode=memory")) {
        return Err(OpenError::InMemory { value: path_or_url.to_owned() });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_path_name_the_same_file() {
        for value in ["/tmp/a.db", "sqlite:/tmp/a.db", "sqlite:///tmp/a.db"] {
            assert_eq!(file_of(value).unwrap(), "/tmp/a.db");
        }
        assert_eq!(file_of("sqlite://a.db").unwrap(), "a.db");
        assert_eq!(file_of("file:a.db?mode=ro").unwrap(), "file:a.db?mode=ro");
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        for value in ["", ":memory:", "sqlite::memory:", "file:x?mode=memory&cache=shared"] {
            assert!(matches!(file_of(value), Err(OpenError::InMemory { .. })), "{value}");
        }
    }
}
