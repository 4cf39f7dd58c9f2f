//! What an error says about other transactions.

use diesel::result::Error;
use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::postgres::error::judge;

/// Texts of errors are kept up to this many characters.
const KEPT_CHARS: usize = 2_000;

/// Whether this error, or one of its sources, says that another transaction was in the way.
pub(super) fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        if let Some(error) = error.downcast_ref::<StorageError>() {
            return error.kind() == StorageErrorKind::Conflict;
        }
        error.downcast_ref::<Error>().is_some_and(|error| judge(error).0 == StorageErrorKind::Conflict)
    })
}

/// What is kept of an error's text; a text column takes no NUL.
pub(super) fn shortened(error: &str) -> String {
    error.chars().take(KEPT_CHARS).map(|char| if char == '\0' { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the invoice was not written")]
    struct Wrapped(#[source] Error);

    fn wrapped(kind: DatabaseErrorKind, text: &str) -> Wrapped {
        Wrapped(Error::DatabaseError(kind, Box::new(text.to_owned())))
    }

    #[test]
    fn a_conflict_is_found_through_the_sources_of_a_handler_s_error() {
        assert!(is_conflict(&wrapped(DatabaseErrorKind::SerializationFailure, "could not serialize access")));
        assert!(is_conflict(&wrapped(DatabaseErrorKind::Unknown, "deadlock detected")));
        assert!(is_conflict(&wrapped(DatabaseErrorKind::Unknown, "canceling statement due to lock timeout")));
        assert!(!is_conflict(&wrapped(DatabaseErrorKind::UniqueViolation, "duplicate key value")));
        assert!(!is_conflict(&Wrapped(Error::NotFound)));
    }

    #[test]
    fn a_text_is_cut_between_characters_and_has_no_nul() {
        assert_eq!(shortened(&"é".repeat(3_000)).chars().count(), 2_000);
        assert!(!shortened("a\0b").contains('\0'));
    }
}
