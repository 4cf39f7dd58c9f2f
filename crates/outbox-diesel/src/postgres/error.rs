//! What a failure of PostgreSQL means for the relay.

use diesel::result::{ConnectionError, DatabaseErrorKind, Error};
use diesel_async::pooled_connection::PoolError;
use outbox_core::ports::{StorageError, StorageErrorKind};

/// A failed statement. `what` completes "cannot …".
///
/// Diesel drops the SQLSTATE, so where its own kinds say nothing the server's English text decides; a server that
/// speaks another language gets [`StorageErrorKind::Other`] there.
pub(crate) fn statement_error(what: &str, error: Error) -> StorageError {
    let (kind, why) = judge(&error);
    StorageError::new(kind, format!("cannot {what}: {why}")).with_source(error)
}

/// What a failed statement means, and why.
pub(crate) fn judge(error: &Error) -> (StorageErrorKind, &'static str) {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection, _)
        | Error::BrokenTransactionManager => (StorageErrorKind::Unavailable, "the connection was lost"),
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
            (StorageErrorKind::Conflict, "another transaction was in the way")
        }
        Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
            (StorageErrorKind::Refused, "the server is read-only: connect to the primary")
        }
        Error::DatabaseError(_, information) => from_text(information.message()),
        _ => (StorageErrorKind::Other, "unexpected reply"),
    }
}

/// A pool that could not make a connection.
pub(crate) fn pool_error(what: &str, error: PoolError) -> StorageError {
    match error {
        // The connector puts what somebody has to repair into this variant, and what may pass into the others.
        PoolError::ConnectionError(ConnectionError::InvalidConnectionUrl(text)) => {
            StorageError::new(StorageErrorKind::Refused, format!("cannot {what}: {text}"))
        }
        PoolError::ConnectionError(ConnectionError::BadConnection(text)) => {
            StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: {text}"))
        }
        PoolError::ConnectionError(other) => {
            StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: no connection")).with_source(other)
        }
        PoolError::QueryError(error) => statement_error(what, error),
    }
}

/// A server that did not answer in time.
pub(crate) fn timed_out(what: &str, limit: std::time::Duration) -> StorageError {
    StorageError::new(
        StorageErrorKind::Unavailable,
        format!("cannot {what}: the database did not answer within {} ms", limit.as_millis()),
    )
}

/// An error together with all of its causes, for texts that must name the root.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn from_text(text: &str) -> (StorageErrorKind, &'static str) {
    const TEXTS: &[(&str, StorageErrorKind, &str)] = &[
        ("terminating connection", StorageErrorKind::Unavailable, "the server ended the connection"),
        ("the database system is", StorageErrorKind::Unavailable, "the server is starting or going down"),
        ("canceling statement due to statement timeout", StorageErrorKind::Unavailable, "the statement took too long"),
        ("canceling statement due to lock timeout", StorageErrorKind::Conflict, "a lock was held too long"),
        ("canceling statement", StorageErrorKind::Unavailable, "the statement was cancelled"),
        ("deadlock detected", StorageErrorKind::Conflict, "another transaction was in the way"),
        ("could not obtain lock", StorageErrorKind::Conflict, "another transaction was in the way"),
        ("could not extend file", StorageErrorKind::Exhausted, "the server has no space left"),
        ("No space left", StorageErrorKind::Exhausted, "the server has no space left"),
        ("out of memory", StorageErrorKind::Exhausted, "the server is out of memory"),
        ("out of shared memory", StorageErrorKind::Exhausted, "the server is out of shared memory"),
        ("permission denied", StorageErrorKind::Refused, "a grant is missing: see docs/roles.md"),
        ("does not exist", StorageErrorKind::Refused, "the schema does not fit: run `outbox migrate up`"),
    ];
    TEXTS
        .iter()
        .find(|(part, ..)| text.contains(part))
        .map_or((StorageErrorKind::Other, "the server refused the statement"), |&(_, kind, why)| (kind, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(kind: DatabaseErrorKind, text: &str) -> Error {
        Error::DatabaseError(kind, Box::new(text.to_owned()))
    }

    #[test]
    fn a_lost_connection_is_unavailable_and_a_deadlock_a_conflict() {
        let lost = statement_error("read", database(DatabaseErrorKind::UnableToSendCommand, "connection closed"));
        assert_eq!(lost.kind(), StorageErrorKind::Unavailable);
        let killed = statement_error(
            "read",
            database(DatabaseErrorKind::Unknown, "terminating connection due to administrator command"),
        );
        assert_eq!(killed.kind(), StorageErrorKind::Unavailable);
        let deadlock = statement_error("settle", database(DatabaseErrorKind::Unknown, "deadlock detected"));
        assert_eq!(deadlock.kind(), StorageErrorKind::Conflict);
    }

    #[test]
    fn a_full_disk_is_exhausted() {
        let text = "could not extend file \"base/1/2\": No space left on device";
        let error = statement_error("settle", database(DatabaseErrorKind::Unknown, text));
        assert_eq!(error.kind(), StorageErrorKind::Exhausted);
        assert_eq!(error.to_string(), "cannot settle: the server has no space left");
    }
}
