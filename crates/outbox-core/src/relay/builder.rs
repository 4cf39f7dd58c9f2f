use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use uuid::Uuid;

use super::config::{InvalidConfig, RelayConfig};
use super::engine::Engine;
use super::handle::{RelayHandle, Shared};
use super::health::Vitals;
use super::stats::{Counters, RelayStats};
use crate::ports::{RelayId, Storage, StorageError, Transport};

/// A relay, ready to run.
pub struct Relay {
    storage: Arc<dyn Storage>,
    transport: Arc<dyn Transport>,
    config: RelayConfig,
    shared: Arc<Shared>,
}

/// Makes a [`Relay`]; see [`Relay::builder`].
pub struct RelayBuilder {
    storage: Arc<dyn Storage>,
    transport: Arc<dyn Transport>,
    config: RelayConfig,
}

/// Why a relay could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The database must not be used as it is; nothing was read or written.
    #[error("the relay cannot start: {0}")]
    Storage(#[source] StorageError),
}

/// What a relay did, once it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayReport {
    /// The counters at the end.
    pub stats: RelayStats,
    /// Whether everything in flight was confirmed and settled before the relay ended. `false`: the shutdown's
    /// deadline came first, and the next owner may publish up to `stats.in_flight` messages again.
    pub drained: bool,
}

impl Relay {
    /// A relay from a storage to a transport.
    pub fn builder(storage: impl Storage, transport: impl Transport) -> RelayBuilder {
        Self::builder_from(Arc::new(storage), Arc::new(transport))
    }

    /// The same from shared ports, for example when the program also uses the storage's admin port.
    pub fn builder_from(storage: Arc<dyn Storage>, transport: Arc<dyn Transport>) -> RelayBuilder {
        RelayBuilder { storage, transport, config: RelayConfig::default() }
    }

    /// A handle to look at the relay and to wake it.
    pub fn handle(&self) -> RelayHandle {
        RelayHandle { shared: self.shared.clone() }
    }

    /// Delivers messages until `shutdown` resolves, then drains: stops reading, waits for what is in flight, settles
    /// it, and gives its shards back, for at most `shutdown_timeout`.
    ///
    /// A database or a broker that cannot be reached is waited for, at the start and later; see
    /// [`RelayHandle::health`].
    ///
    /// # Errors
    ///
    /// [`RelayError::Storage`] when the database is reachable at the start but must not be used (schema version, grants,
    /// sequence), with the fix in the text.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is as a crash: nothing is lost, and up to `max_in_flight` messages may be published
    /// again by the next owner once the lease has run out.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<RelayReport, RelayError> {
        let id = RelayId { owner: Uuid::new_v4(), name: self.config.name.clone() };
        Engine::start(self.storage, self.transport, self.config, self.shared, id, shutdown).await
    }
}

impl RelayBuilder {
    /// Sets the whole configuration.
    pub fn config(mut self, config: RelayConfig) -> Self {
        self.config = config;
        self
    }

    /// Checks the configuration and makes the relay.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming key, value and what is allowed.
    pub fn build(self) -> Result<Relay, InvalidConfig> {
        self.config.validate()?;
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            nudge: Notify::new(),
            vitals: Mutex::new(Vitals::default()),
            lease_duration: self.config.lease_duration,
            lag_alert: self.config.lag_alert,
        });
        Ok(Relay { storage: self.storage, transport: self.transport, config: self.config, shared })
    }
}
