//! What a failure of MySQL or MariaDB means for the relay.

use std::time::Duration;

use mysql_async::Error;
use outbox_core::ports::{StorageError, StorageErrorKind};

/// A failed statement. `what` completes "cannot …".
///
/// The server's error number decides, whatever language its texts have.
pub(crate) fn statement_error(what: &str, error: Error) -> StorageError {
    let (kind, why) = match &error {
        Error::Server(server) => meaning(server.code),
        Error::Io(_) | Error::Driver(_) => (StorageErrorKind::Unavailable, "the connection was lost"),
        Error::Other(_) | Error::Url(_) => (StorageErrorKind::Other, "unexpected reply"),
    };
    let failed = StorageError::new(kind, format!("cannot {what}: {why}"));
    match error {
        // A driver's error may carry rows or packets in its fields: only its text goes on.
        Error::Driver(error) => failed.with_source(error.to_string()),
        error => failed.with_source(error),
    }
}

/// A server that did not answer in time.
pub(crate) fn timed_out(what: &str, limit: Duration) -> StorageError {
    StorageError::new(
        StorageErrorKind::Unavailable,
        format!("cannot {what}: the database did not answer within {} ms", limit.as_millis()),
    )
}

/// A reply that is not what the statement returns.
pub(crate) fn unexpected_reply(what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Other, format!("cannot {what}: unexpected reply"))
}

/// What somebody has to correct.
pub(crate) fn refused(message: String) -> StorageError {
    StorageError::new(StorageErrorKind::Refused, message)
}

/// What a server's error number means. Sources: the error references of MySQL 8.0 and MariaDB.
pub(crate) fn meaning(code: u16) -> (StorageErrorKind, &'static str) {
    use StorageErrorKind::{Conflict, Exhausted, Other, Refused, Unavailable};
    match code {
        1213 => (Conflict, "another transaction was in the way (deadlock)"),
        1205 => (Conflict, "a lock was held too long"),
        1020 => (Conflict, "a row was changed by another transaction"),
        1040 | 1203 | 1226 => (Unavailable, "the server has no connection to spare"),
        1053 | 1077 | 1078 | 1079 | 1927 | 4031 => (Unavailable, "the server ended the connection"),
        1152..=1161 if code != 1153 => (Unavailable, "the connection was lost"),
        1317 | 1969 | 3024 => (Unavailable, "the statement took too long or was cancelled"),
        1047 | 1129 | 3032 | 3168 => (Unavailable, "the server is not ready"),
        1290 | 1792 | 1836 => (Refused, "the server is read-only: connect to the primary"),
        1665 => (Refused, "binlog_format is STATEMENT: set binlog_format = ROW or MIXED"),
        1044 | 1045 | 1130 | 1251 | 1698 | 3118 | 4151 => {
            (Refused, "the account is not let in: check user, password, host and grants")
        }
        1820 | 1862 => (Refused, "the password of the account has expired: set a new one"),
        3159 => (Refused, "the server wants TLS: add ssl-mode=required to the URL"),
        1142 | 1143 | 1227 | 1370 | 1410 => (Refused, "a grant is missing: see docs/roles.md"),
        1049 => (Refused, "the database does not exist: correct its name or create it (a schema: `outbox migrate up`)"),
        1054 | 1146 => (Refused, "the schema does not fit: run `outbox migrate up`"),
        1153 => (Refused, "a packet is too large: raise max_allowed_packet"),
        1021 | 1114 => (Exhausted, "the server has no space left"),
        3 | 1026 | 1030 => (Exhausted, "the server cannot write its files"),
        1037 | 1038 | 1041 | 1135 | 1206 => (Exhausted, "the server is out of memory"),
        _ => (Other, "the server refused the statement"),
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::{DriverError, ServerError};

    use super::*;

    fn server(code: u16) -> Error {
        Error::Server(ServerError { code, message: "text".to_owned(), state: "HY000".to_owned() })
    }

    #[test]
    fn a_lost_connection_is_unavailable_and_a_deadlock_a_conflict() {
        let lost = statement_error("read", Error::Driver(DriverError::ConnectionClosed));
        assert_eq!(lost.kind(), StorageErrorKind::Unavailable);
        assert_eq!(statement_error("read", server(1927)).kind(), StorageErrorKind::Unavailable);
        assert_eq!(statement_error("settle", server(1213)).kind(), StorageErrorKind::Conflict);
        assert_eq!(statement_error("settle", server(1205)).kind(), StorageErrorKind::Conflict);
    }

    #[test]
    fn an_account_that_is_not_let_in_is_refused_with_what_to_check() {
        for (code, fix) in [(1130, "host"), (1862, "set a new one"), (3118, "check user"), (3159, "ssl-mode=required")]
        {
            let error = statement_error("connect", server(code));
            assert_eq!(error.kind(), StorageErrorKind::Refused, "{code}");
            assert!(error.to_string().contains(fix), "{error}");
        }
    }

    #[test]
    fn a_full_disk_is_exhausted() {
        let error = statement_error("settle", server(1114));
        assert_eq!(error.kind(), StorageErrorKind::Exhausted);
        assert_eq!(error.to_string(), "cannot settle: the server has no space left");
    }

    #[test]
    fn a_packet_that_the_driver_shows_does_not_get_into_the_error() {
        let error =
            statement_error("read", Error::Driver(DriverError::UnexpectedPacket { payload: b"secret".to_vec() }));
        assert!(!format!("{error:?}").contains("115, 101, 99"), "{error:?}");
    }
}
