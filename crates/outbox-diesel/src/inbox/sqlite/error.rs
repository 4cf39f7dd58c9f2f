//! What SQLite's errors mean to the inbox.

use diesel::result::{DatabaseErrorKind, Error};
use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::inbox::shared;
use crate::sqlite::error::judge;

/// A storage error of the right kind for what SQLite said. `what` completes "cannot …".
pub(super) fn statement_error(what: &str, error: Error) -> StorageError {
    let (kind, fix) = judge(&error);
    let text = if let Error::DatabaseError(_, information) = &error { information.message() } else { "" };
    let fix = match &error {
        Error::DatabaseError(DatabaseErrorKind::CheckViolation, _) => ": a value breaks a check of the inbox tables",
        _ if text.contains("no such table") || text.contains("no such column") => {
            ": the tables are missing or others, run the migrations of outbox_diesel::inbox"
        }
        _ if text.contains("too big") => ": a row of SQLite has 1,000,000,000 bytes at most, lower max_message_bytes",
        _ => fix,
    };
    StorageError::new(kind, format!("cannot {what}{fix}")).with_source(error)
}

/// Whether another connection had the lock.
pub(super) fn is_busy(error: &Error) -> bool {
    judge(error).0 == StorageErrorKind::Conflict
}

/// Whether a constraint is against it.
pub(super) fn is_refusal(error: &Error) -> bool {
    use DatabaseErrorKind::{CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation};
    let Error::DatabaseError(kind, _) = error else { return false };
    matches!(kind, CheckViolation | ForeignKeyViolation | NotNullViolation | UniqueViolation)
}

/// Whether this error, or one of its sources, says that another connection was in the way.
pub(super) fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    shared::is_conflict(error, |error| judge(error).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the invoice was not written")]
    struct Wrapped(#[source] Error);

    fn wrapped(kind: DatabaseErrorKind, text: &str) -> Wrapped {
        Wrapped(Error::DatabaseError(kind, Box::new(text.to_owned())))
    }

    #[test]
    fn a_lock_of_others_is_a_conflict_through_the_sources_of_a_handler_s_error() {
        assert!(is_conflict(&wrapped(DatabaseErrorKind::Unknown, "database is locked")));
        assert!(!is_conflict(&wrapped(DatabaseErrorKind::Unknown, "database or disk is full")));
        assert!(!is_conflict(&wrapped(DatabaseErrorKind::UniqueViolation, "UNIQUE constraint failed: invoices.id")));
        assert!(!is_conflict(&Wrapped(Error::NotFound)));
    }

    #[test]
    fn what_people_can_correct_is_said() {
        let missing = Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new("no such table: x".to_owned()));
        let error = statement_error("admit messages", missing);
        assert_eq!(error.kind(), StorageErrorKind::Refused);
        assert!(error.to_string().contains("run the migrations of outbox_diesel::inbox"), "{error}");
        let large = Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new("string or blob too big".to_owned()));
        assert!(statement_error("put messages aside", large).to_string().contains("max_message_bytes"));
    }
}
