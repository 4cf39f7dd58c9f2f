use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolError;
use outbox_core::ports::StorageError;

use super::connector::Connector;
use super::error::pool_error;
use super::tls::Tls;
use super::url::PostgresUrl;

/// Opens one connection by the rules of [`PostgresStorage`](super::PostgresStorage) (`sslmode`, `sslrootcert`, time-outs), for migrations
/// and for programs that want their own connection to follow the same URL. Its session has the server's defaults.
///
/// # Errors
///
/// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a URL, certificate or account that must be corrected;
/// [`Unavailable`](outbox_core::ports::StorageErrorKind::Unavailable) when the server cannot be reached. Never with the password.
///
/// # Cancellation
///
/// Dropping the future closes the connection.
pub async fn establish(url: &str) -> Result<AsyncPgConnection, StorageError> {
    let url = PostgresUrl::parse(url)?;
    let tls = Tls::of(&url, None)?;
    let connected = Connector::new(&url, tls, "outbox").plain().await;
    connected.map_err(|error| pool_error("connect", PoolError::ConnectionError(error)))
}
