use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::storage_error;

/// How long a statement waits for another connection's write lock, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// Opens a database file the way the outbox needs it, and makes it when it does not exist.
///
/// Takes a path, `sqlite:PATH`, `sqlite://PATH` or a `file:` URI. The connection waits up to 5 s for another one's
/// write lock and uses a write-ahead log (readers and the writer do not stop each other), `synchronous = FULL` (a
/// commit survives a power cut, without which an event could be published whose transaction is gone) and
/// foreign keys.
///
/// # Errors
///
/// A [`StorageError`] when the file cannot be opened or cannot have a write-ahead log, or the database would be in memory.
///
/// # Cancellation
///
/// Dropping the future may leave an empty file.
pub async fn establish(path_or_url: impl AsRef<Path>) -> Result<SyncConnectionWrapper<SqliteConnection>, StorageError> {
    let path = path_or_url.as_ref().to_owned();
    let conn = tokio::task::spawn_blocking(move || establish_sync(path)).await.map_err(|error| {
        StorageError::new(StorageErrorKind::Other, "opening the SQLite database did not end").with_source(error)
    })??;
    Ok(SyncConnectionWrapper::new(conn))
}

/// [`establish`] for synchronous programs. Blocks.
///
/// # Errors
///
/// As [`establish`].
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let conn = outbox_diesel::sqlite::establish_sync(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn establish_sync(path_or_url: impl AsRef<Path>) -> Result<SqliteConnection, StorageError> {
    open(&file_of(path_or_url.as_ref())?)
}

/// Opens a file that [`file_of`] named.
pub(crate) fn open(file: &str) -> Result<SqliteConnection, StorageError> {
    let mut conn = SqliteConnection::establish(file).map_err(|error| {
        StorageError::new(
            StorageErrorKind::Unavailable,
            format!("cannot open the SQLite database {file}: check that its folder exists and is writable"),
        )
        .with_source(error)
    })?;
    // Before anything else: turning the write-ahead log on needs a lock too.
    conn.batch_execute(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))
        .and_then(|()| {
            conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        })
        .map_err(|error| storage_error(&format!("set up the SQLite database {file}"), error))?;
    Ok(conn)
}

/// The file that a path or URL names.
pub(crate) fn file_of(path_or_url: &Path) -> Result<String, StorageError> {
    let refused = |problem: &str| {
        StorageError::new(StorageErrorKind::Refused, format!("{:?} {problem}", path_or_url.display().to_string()))
    };
    let text = path_or_url.to_str().ok_or_else(|| refused("is no UTF-8: rename the file"))?;
    let file = match text.strip_prefix("sqlite:") {
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None => text,
    };
    if file.is_empty() || file.contains(":memory:") || (file.starts_with("file:") && file.contains("mode=memory")) {
        return Err(refused("is a database in memory, which every connection has for itself: use a file"));
    }
    Ok(file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_path_name_the_same_file() {
        for value in ["/tmp/a.db", "sqlite:/tmp/a.db", "sqlite:///tmp/a.db"] {
            assert_eq!(file_of(Path::new(value)).unwrap(), "/tmp/a.db");
        }
        assert_eq!(file_of(Path::new("sqlite://a.db")).unwrap(), "a.db");
        assert_eq!(file_of(Path::new("file:a.db?mode=ro")).unwrap(), "file:a.db?mode=ro");
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        for value in ["", ":memory:", "sqlite::memory:", "file:x?mode=memory&cache=shared"] {
            let error = file_of(Path::new(value)).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Refused, "{value}");
        }
    }
}
