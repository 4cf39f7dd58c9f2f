//! What an error says about other transactions.

use crate::inbox::shared;
use crate::postgres::error::judge;

/// Whether this error, or one of its sources, says that another transaction was in the way.
pub(super) fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    shared::is_conflict(error, |error| judge(error).0)
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind, Error};

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
}
