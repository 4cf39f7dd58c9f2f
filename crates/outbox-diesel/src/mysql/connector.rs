//! Connections of the relay, with a session whose settings no server default can change.

use std::time::Duration;

use mysql_async::{Conn, Error, IoError, Opts, OptsBuilder, SslOpts};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::error::{meaning, refused, timed_out};
use super::url::MysqlUrl;

/// A server that vanished without a word is noticed on idle connections by these probes; statements have time-outs of their own.
const KEEPALIVE_MS: u32 = 10_000;

/// How long a connection may take to be made, its session included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server keeps an idle connection whose texts may hold transactions. It bounds how long the locks of one stay whose relay
/// was paused in the one moment in which it has to send a ROLLBACK.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Every statement sees what was committed when it began, and locks no gap that a producer's insert could wait for.
    ReadCommitted,
    /// Sees rows that are not committed yet. For the one statement that looks for them.
    ReadUncommitted,
}

/// What the server may take for statements of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a statement.
    pub(crate) statement: Duration,
    /// For a row lock, in whole seconds.
    pub(crate) lock: Duration,
    /// Until the connection is closed when nothing is sent, in whole seconds.
    pub(crate) idle: Duration,
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    options: Opts,
    tls: Option<SslOpts>,
    target: String,
}

impl Connector {
    pub(crate) fn new(url: &MysqlUrl, tls: Option<SslOpts>) -> Self {
        Self { options: url.options.clone(), tls, target: url.redacted() }
    }

    /// User, host, port and database, without the password.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The database that the URL names.
    pub(crate) fn database(&self) -> Option<&str> {
        self.options.db_name()
    }

    /// A connection with the server's own settings. `what` completes "cannot …".
    pub(crate) async fn plain(&self, what: &str) -> Result<Conn, StorageError> {
        self.open(what, Vec::new()).await
    }

    /// A connection for statements of the relay.
    pub(crate) async fn connect(&self, what: &str, isolation: Isolation, limits: Limits) -> Result<Conn, StorageError> {
        self.open(what, session(isolation, limits)).await
    }

    async fn open(&self, what: &str, setup: Vec<String>) -> Result<Conn, StorageError> {
        let options = OptsBuilder::from_opts(self.options.clone())
            .ssl_opts(self.tls.clone())
            .tcp_keepalive(Some(KEEPALIVE_MS))
            .tcp_nodelay(true)
            // A socket would go around TLS, and need not belong to the same server when a port is forwarded.
            .prefer_socket(false)
            // Counts are rows matched, as on the other databases and as Diesel has it.
            .client_found_rows(true)
            .stmt_cache_size(0)
            .init(setup);
        match tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options)).await {
            Ok(connected) => connected.map_err(|error| self.connect_error(what, error)),
            Err(_) => Err(timed_out(what, CONNECT_TIMEOUT)),
        }
    }

    fn connect_error(&self, what: &str, error: Error) -> StorageError {
        let target = &self.target;
        let (kind, why) = match &error {
            Error::Server(server) => meaning(server.code),
            #[cfg(feature = "mysql-tls")]
            Error::Io(IoError::Tls(_)) => (
                StorageErrorKind::Refused,
                "the server's certificate is not trusted: give the CA that signed it as ssl-ca, and connect by the name in it",
            ),
            Error::Io(IoError::Io(cause)) if cause.kind() == std::io::ErrorKind::InvalidData => (
                StorageErrorKind::Refused,
                "the server's certificate is not trusted: give the CA that signed it as ssl-ca, and connect by the name in it",
            ),
            Error::Io(_) => (StorageErrorKind::Unavailable, "the server cannot be reached"),
            Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
                (StorageErrorKind::Refused, "the server has no TLS: turn it on there, or use ssl-mode=disabled")
            }
            Error::Driver(_) => (StorageErrorKind::Unavailable, "the server ended the connection"),
            Error::Other(_) | Error::Url(_) => (StorageErrorKind::Refused, "correct the database URL"),
        };
        let failed = StorageError::new(kind, format!("cannot {what}: no connection to {target}: {why}"));
        match error {
            Error::Driver(error) => failed.with_source(error.to_string()),
            error => failed.with_source(error),
        }
    }

    /// Without a database in the URL the schema of the tables is the connection's: MySQL refuses a DELETE through an alias while no
    /// database is selected, whatever its tables are qualified with.
    pub(crate) fn with_database(mut self, schema: Option<&str>) -> Result<Self, StorageError> {
        if self.database().is_none() {
            let Some(schema) = schema else {
                return Err(refused(
                    "the database URL names no database: use mysql://user:password@host:port/database, or set a schema"
                        .to_owned(),
                ));
            };
            self.options = OptsBuilder::from_opts(self.options).db_name(Some(schema)).into();
        }
        Ok(self)
    }
}

/// The statements that set a session up.
///
/// Comments that begin with `/*M!` are run by MariaDB only (`/*M!110600`: from 11.6 on), those with `/*!80000` by MySQL 8 only.
fn session(isolation: Isolation, limits: Limits) -> Vec<String> {
    let level = match isolation {
        Isolation::ReadCommitted => "READ COMMITTED",
        Isolation::ReadUncommitted => "READ UNCOMMITTED",
    };
    let statement = limits.statement;
    let (lock, idle) = (limits.lock.as_secs().max(1), limits.idle.as_secs().max(1));
    vec![
        format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"),
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin".to_owned(),
        // A default of `sql_select_limit` would cut reads unseen, and one of `completion_type` would leave every later statement in a
        // transaction that nobody commits.
        format!(
            "SET SESSION sql_select_limit = {}, completion_type = 0, sql_safe_updates = 0, sql_big_selects = 1, sql_auto_is_null = 0",
            u64::MAX
        ),
        // From 11.6 on MariaDB ends a transaction (1020) that locks a row which has changed since the same statement read something, at
        // READ COMMITTED too: statements that find rows and then lock them would fail while others write.
        format!(
            "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
             innodb_lock_wait_timeout = {lock}, wait_timeout = {idle}, group_concat_max_len = 1048576 \
             /*M! , idle_transaction_timeout = {idle}, max_statement_time = {}.{:03} */ \
             /*M!110600 , innodb_snapshot_isolation = 0 */ /*!80000 , max_execution_time = {}, information_schema_stats_expiry = 0 */",
            statement.as_secs(),
            statement.subsec_millis(),
            statement.as_millis().max(1),
        ),
    ]
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).field("tls", &self.tls.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_default_of_a_server_stands_that_would_change_what_a_statement_does() {
        let second = Duration::from_secs(1);
        let limits = Limits { statement: second, lock: second, idle: second };
        let session = session(Isolation::ReadCommitted, limits).join("; ");
        for setting in [
            "TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "autocommit = 1",
            "completion_type = 0",
            "sql_select_limit = 18446744073709551615",
            "sql_safe_updates = 0",
            "sql_big_selects = 1",
            "sql_auto_is_null = 0",
            "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            "time_zone = '+00:00'",
            "innodb_snapshot_isolation = 0",
        ] {
            assert!(session.contains(setting), "{setting}: {session}");
        }
    }
}
