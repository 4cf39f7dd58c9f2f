//! Connections of the relay: TLS, keepalives, and a session whose plans do not follow stale statistics.

use std::time::Duration;

use diesel::result::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;

use super::error::with_causes;
use super::tls::Tls;
use super::url::PostgresUrl;

/// A server that vanished without a word is noticed after idle + 3 × interval = 25 s at the latest, on connections
/// without a statement; statements have their own time-outs.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The plans of the relay's statements are fixed: point look-ups and short ranges of an index. The hot table's statistics
/// change from empty to millions and back, and a plan made from the wrong ones scans it.
const SESSION: &str = "\
    SET default_transaction_isolation = 'read committed'; \
    SET jit = off; \
    SET plan_cache_mode = force_generic_plan; \
    SET max_parallel_workers_per_gather = 0; \
    SET enable_seqscan = off; \
    SET enable_bitmapscan = off; \
    SET enable_hashjoin = off; \
    SET enable_mergejoin = off; \
    SET enable_sort = off;";

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    config: tokio_postgres::Config,
    tls: Tls,
    target: String,
}

impl Connector {
    pub(crate) fn new(url: &PostgresUrl, tls: Tls, application_name: &str) -> Self {
        let mut config = url.config.clone();
        config.keepalives(true);
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
        config.ssl_mode(if tls.is_on() { SslMode::Require } else { SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name(application_name);
        }
        Self { config, tls, target: url.redacted() }
    }

    /// User, host, port and database, without the password.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// A connection with the server's own settings. Errors are as those of [`connect`](Self::connect).
    pub(crate) async fn plain(&self) -> ConnectionResult<AsyncPgConnection> {
        self.tls.connect(&self.config).await.map_err(|error| self.connect_error(&error))
    }

    /// A connection with the server's own settings, which writes only in transactions that begin with `READ WRITE`: what comes after a handler
    /// has ended the inbox's transaction must not be committed statement by statement.
    #[cfg(feature = "inbox")]
    pub(crate) async fn guarded(&self) -> ConnectionResult<AsyncPgConnection> {
        const GUARD: &str = "SET default_transaction_read_only = on";
        let mut connection = self.plain().await?;
        connection.batch_execute(GUARD).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }

    /// A connection for statements. `InvalidConnectionUrl` is what somebody has to repair; all else may pass.
    pub(crate) async fn connect(&self, statement_timeout: Duration) -> ConnectionResult<AsyncPgConnection> {
        let mut connection = self.plain().await?;
        let session = format!("{SESSION} SET statement_timeout = {};", statement_timeout.as_millis().max(1));
        connection.batch_execute(&session).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }

    fn connect_error(&self, error: &ConnectFailure) -> ConnectionError {
        let (target, causes) = (&self.target, with_causes(error.cause()));
        let fix = match error {
            ConnectFailure::Server(error) => match error.code() {
                Some(code) if *code == SqlState::INVALID_PASSWORD => "check user and password",
                Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                    "check user, pg_hba.conf and sslmode"
                }
                Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "create the database or correct its name",
                None if causes.contains("certificate") => {
                    "the server's certificate is not trusted: give the CA that signed it as sslrootcert, and connect by the name in it"
                }
                None if causes.contains("does not support TLS") => "turn TLS on at the server, or use sslmode=disable",
                None if causes.contains("invalid configuration") => "correct the database URL",
                _ => return ConnectionError::BadConnection(format!("no connection to {target}: {causes}")),
            },
            ConnectFailure::Setup(_) => {
                return ConnectionError::BadConnection(format!("no session at {target}: {causes}"));
            }
        };
        ConnectionError::InvalidConnectionUrl(format!("no connection to {target}: {causes} ({fix})"))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).field("tls", &self.tls.is_on()).finish()
    }
}

/// Why there is no connection.
pub(crate) enum ConnectFailure {
    /// The server, the network or TLS.
    Server(tokio_postgres::Error),
    /// The first statements of the session.
    Setup(ConnectionError),
}

impl ConnectFailure {
    fn cause(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Server(error) => error,
            Self::Setup(error) => error,
        }
    }
}
