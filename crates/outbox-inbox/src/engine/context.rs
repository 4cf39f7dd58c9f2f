use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outbox_core::inbox::{ClaimToken, Consumer, InboxStorage, TransactionLimits};
use outbox_core::ports::{StorageError, StorageErrorKind};
use outbox_core::relay::Backoff;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Losses;
use crate::InboxConfig;
use crate::builder::DeriveIdentity;
use crate::decoder::Decoder;
use crate::handle::Shared;
use crate::handler::Handlers;

/// What every room needs and none changes.
pub(crate) struct Context<S: InboxStorage> {
    pub(crate) storage: Arc<S>,
    pub(crate) consumer: Consumer,
    pub(crate) config: InboxConfig,
    pub(crate) handlers: Handlers<S::Connection>,
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) derive: Option<DeriveIdentity>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) losses: Losses,
    pub(crate) rng: Mutex<StdRng>,
}

impl<S: InboxStorage> Context<S> {
    /// A call of the storage, given up when it takes too long: a connection to a machine that is gone may never answer.
    pub(super) async fn limited<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let limit = self.config.storage_timeout;
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let message = format!("{what} took longer than storage_timeout ({} ms)", limit.as_millis());
            Err(StorageError::new(StorageErrorKind::Unavailable, message))
        })
    }

    pub(super) async fn begin(&self) -> Result<S::Transaction, StorageError> {
        let limits = TransactionLimits { statement: self.config.statement_timeout, lock: self.config.lock_timeout };
        self.limited("beginning a transaction", self.storage.begin(&self.consumer, &limits)).await
    }

    /// Waits before the `attempt`th new attempt to reach the database or the broker.
    pub(super) async fn pause(&self, attempt: u32) {
        tokio::time::sleep(self.delay(&self.config.reconnect, attempt)).await;
    }

    /// A handler has lost its connection: the database is to blame, unless it happens to the same message again and again.
    pub(super) fn connection_lost(&self) -> StorageError {
        let lost = StorageError::new(StorageErrorKind::Unavailable, "the connection was lost while a handler ran");
        self.shared.database_failed("a handler has failed for want of a connection", &lost);
        lost
    }

    pub(super) fn delay(&self, backoff: &Backoff, attempt: u32) -> Duration {
        backoff.delay(attempt, &mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn new_claim(&self) -> ClaimToken {
        let bytes: u128 = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random();
        ClaimToken(uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid())
    }
}
