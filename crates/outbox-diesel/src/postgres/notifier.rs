//! Wake-ups by `NOTIFY`, on a connection of their own.

use async_trait::async_trait;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::{FutureExt, StreamExt};
use outbox_core::ports::{Notifier, StorageError, StorageErrorKind};

use super::error::statement_error;

/// Listens on the channel of the outbox tables.
pub(super) struct PostgresNotifier {
    connection: AsyncPgConnection,
}

impl PostgresNotifier {
    pub(super) async fn listen(mut connection: AsyncPgConnection, channel: &str) -> Result<Self, StorageError> {
        connection
            .batch_execute(&format!("LISTEN \"{channel}\""))
            .await
            .map_err(|error| statement_error("listen for appends", error))?;
        Ok(Self { connection })
    }
}

#[async_trait]
impl Notifier for PostgresNotifier {
    async fn notified(&mut self) -> Result<(), StorageError> {
        let mut notifications = std::pin::pin!(self.connection.notifications_stream());
        let lost =
            || StorageError::new(StorageErrorKind::Unavailable, "the connection that listens for appends was lost");
        match notifications.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(lost().with_source(error)),
            None => return Err(lost()),
        }
        // One wake-up stands for all that have arrived; a lost connection among them shows in the next call.
        while let Some(Some(Ok(_))) = notifications.next().now_or_never() {}
        Ok(())
    }
}
