use diesel::result::{DatabaseErrorKind, Error};
use outbox_core::ports::{StorageError, StorageErrorKind};

/// A storage error of the right kind for what SQLite said. `action` completes "cannot …".
///
/// Diesel keeps no result code of SQLite, so the kind follows from SQLite's own fixed English texts (`sqlite3ErrStr`).
pub(crate) fn storage_error(action: &str, error: Error) -> StorageError {
    let (kind, fix) = judge(&error);
    StorageError::new(kind, format!("cannot {action}{fix}")).with_source(error)
}

/// What an error means, and what to do, as the end of a sentence.
pub(crate) fn judge(error: &Error) -> (StorageErrorKind, &'static str) {
    match error {
        Error::DatabaseError(DatabaseErrorKind::CheckViolation, _) => {
            (StorageErrorKind::Refused, ": a value breaks a check of the outbox tables")
        }
        Error::DatabaseError(_, information) => kind_of(information.message()),
        _ => (StorageErrorKind::Other, ""),
    }
}

fn kind_of(message: &str) -> (StorageErrorKind, &'static str) {
    use StorageErrorKind::{Conflict, Exhausted, Refused, Unavailable};
    let known = [
        ("database or disk is full", Exhausted, ": the disk is full, or the database reached `max_page_count`"),
        ("out of memory", Exhausted, ": SQLite has no memory left"),
        ("is locked", Conflict, ": another connection held the write lock longer than the busy time-out"),
        ("readonly database", Refused, ": the file or its folder is not writable for this process"),
        ("not a database", Refused, ": the file is no SQLite database"),
        ("malformed", Refused, ": the file is damaged, restore it"),
        ("no such table", Refused, ": run `outbox migrate up --database URL`"),
        ("no such column", Refused, ": run `outbox migrate up --database URL`"),
        ("unable to open database file", Unavailable, ": the file cannot be opened"),
        ("disk I/O error", Unavailable, ": the file cannot be read or written"),
    ];
    known
        .iter()
        .find(|(text, ..)| message.contains(text))
        .map_or((StorageErrorKind::Other, ""), |&(_, kind, fix)| (kind, fix))
}
