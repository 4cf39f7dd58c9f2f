use diesel_async::AsyncMysqlConnection;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::connector::Connector;
use super::tls;
use super::url::MysqlUrl;

/// Opens one connection by the rules of [`MysqlStorage`](super::MysqlStorage) (`ssl-mode`, `ssl-ca`, time-outs), for migrations
/// and for programs that want their own connection to follow the same URL. Its session has the server's defaults, but for the
/// time zone (UTC) and the charset (utf8mb4), which Diesel sets.
///
/// # Errors
///
/// [`Refused`](outbox_core::ports::StorageErrorKind::Refused) for a URL, certificate or account that must be corrected;
/// [`Unavailable`](outbox_core::ports::StorageErrorKind::Unavailable) when the server cannot be reached. Never with the password.
///
/// # Cancellation
///
/// Dropping the future closes the connection.
pub async fn establish(url: &str) -> Result<AsyncMysqlConnection, StorageError> {
    let url = MysqlUrl::parse(url)?;
    let tls = tls::options(&url, None)?;
    diesel_connection(&Connector::new(&url, tls), "connect").await
}

/// A connection as Diesel has it.
pub(crate) async fn diesel_connection(connector: &Connector, what: &str) -> Result<AsyncMysqlConnection, StorageError> {
    let conn = connector.plain(what).await?;
    AsyncMysqlConnection::try_from(conn).await.map_err(|error| {
        StorageError::new(StorageErrorKind::Unavailable, format!("cannot {what}: no session")).with_source(error)
    })
}
