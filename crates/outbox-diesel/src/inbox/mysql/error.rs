//! What an error of Diesel says. Its own kinds tell hardly anything and the server's number is dropped, so the text decides: the sessions
//! of the inbox have the server speak English.

use diesel::result::{DatabaseErrorKind, Error};
use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::inbox::shared;

/// A failed statement. `what` completes "cannot …".
pub(super) fn statement_error(what: &str, error: Error) -> StorageError {
    let (kind, why) = judge(&error);
    StorageError::new(kind, format!("cannot {what}: {why}")).with_source(error)
}

/// Whether this error, or one of its sources, says that another transaction was in the way.
pub(super) fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    shared::is_conflict(error, |error| judge(error).0)
}

/// What a failed statement means, and why.
pub(super) fn judge(error: &Error) -> (StorageErrorKind, &'static str) {
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
            (StorageErrorKind::Conflict, "another transaction was in the way")
        }
        Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
            (StorageErrorKind::Refused, "the server is read-only: connect to the primary")
        }
        Error::DatabaseError(_, information) => from_text(information.message()),
        Error::RollbackErrorOnCommit { commit_error, .. } => judge(commit_error),
        Error::BrokenTransactionManager => (StorageErrorKind::Unavailable, "the connection was lost"),
        _ => (StorageErrorKind::Other, "unexpected reply"),
    }
}

/// Sources: the error references of MySQL 8.0 and MariaDB, and the driver.
fn from_text(text: &str) -> (StorageErrorKind, &'static str) {
    use StorageErrorKind::{Conflict, Exhausted, Other, Refused, Unavailable};
    const TEXTS: &[(&str, StorageErrorKind, &str)] = &[
        ("Deadlock found", Conflict, "another transaction was in the way (deadlock)"),
        ("Lock wait timeout exceeded", Conflict, "a lock was held too long"),
        // what Diesel's nested transaction says when a deadlock has ended the whole transaction, instead of what it met
        ("SAVEPOINT diesel_savepoint", Conflict, "the transaction has ended, as by a deadlock"),
        ("Record has changed since last read", Conflict, "a row was changed by another transaction"),
        ("Input/output error", Unavailable, "the connection was lost"),
        ("Driver error", Unavailable, "the connection was lost"),
        ("Connection was killed", Unavailable, "the server ended the connection"),
        ("Server shutdown in progress", Unavailable, "the server ended the connection"),
        ("disconnected by the server", Unavailable, "the server ended the connection"),
        ("execution was interrupted", Unavailable, "the statement took too long or was cancelled"),
        ("maximum statement execution time exceeded", Unavailable, "the statement took too long"),
        ("Too many connections", Unavailable, "the server has no connection to spare"),
        ("read-only", Refused, "the server is read-only: connect to the primary"),
        ("binlog", Refused, "binlog_format is STATEMENT: set binlog_format = ROW or MIXED"),
        ("command denied", Refused, "a grant is missing: see docs/roles.md"),
        ("Access denied", Refused, "a grant is missing: see docs/roles.md"),
        ("doesn't exist", Refused, "the schema does not fit: run the migrations of outbox_diesel::inbox"),
        ("Unknown column", Refused, "the schema does not fit: run the migrations of outbox_diesel::inbox"),
        ("max_allowed_packet", Refused, "a packet is too large: raise max_allowed_packet"),
        ("Packet too large", Refused, "a packet is too large: raise max_allowed_packet"),
        ("is full", Exhausted, "the server has no space left"),
        ("No space left", Exhausted, "the server has no space left"),
        ("Out of memory", Exhausted, "the server is out of memory"),
        ("lock table size", Exhausted, "the server is out of memory"),
    ];
    let found = TEXTS.iter().find(|(part, ..)| text.contains(part));
    found.map_or((Other, "the server refused the statement"), |(_, kind, why)| (*kind, *why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the invoice was not written")]
    struct Wrapped(#[source] Error);

    fn of(text: &str) -> Error {
        Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
    }

    #[test]
    fn a_conflict_is_found_through_the_sources_of_a_handler_s_error() {
        let deadlock = || of("Deadlock found when trying to get lock; try restarting transaction");
        assert!(is_conflict(&Wrapped(deadlock())));
        assert!(is_conflict(&Wrapped(of("Lock wait timeout exceeded; try restarting transaction"))));
        assert!(is_conflict(&Wrapped(of("SAVEPOINT diesel_savepoint_1 does not exist"))), "nested");
        let nested = Error::RollbackErrorOnCommit {
            rollback_error: Box::new(of("Server shutdown in progress")),
            commit_error: Box::new(deadlock()),
        };
        assert!(is_conflict(&Wrapped(nested)));
        assert!(!is_conflict(&Wrapped(of("Duplicate entry '1' for key 'PRIMARY'"))));
        assert!(!is_conflict(&Wrapped(Error::NotFound)));
    }

    #[test]
    fn a_lost_connection_is_unavailable() {
        for text in ["Driver error: `Connection to the server is closed.'", "Input/output error: broken pipe"] {
            assert_eq!(judge(&of(text)).0, StorageErrorKind::Unavailable, "{text}");
        }
    }
}
