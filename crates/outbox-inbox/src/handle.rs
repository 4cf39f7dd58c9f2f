use std::sync::{Arc, Mutex, PoisonError};

use outbox_core::ports::{StorageError, StorageErrorKind};
use tokio::time::Instant;

use crate::health::{InboxHealth, Vitals};
use crate::stats::{Counters, InboxStats};

/// Looks at a running inbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InboxHandle {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    vitals: Mutex<Vitals>,
}

impl Shared {
    pub(crate) fn vitals<T>(&self, change: impl FnOnce(&mut Vitals) -> T) -> T {
        change(&mut self.vitals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn database_is_well(&self) {
        self.vitals(|vitals| vitals.database = None);
    }

    pub(crate) fn database_failed(&self, what: &'static str, error: &StorageError) {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = %error, source, "{what}");
        if error.kind() != StorageErrorKind::Conflict {
            self.vitals(|vitals| vitals.database = Some(describe(error)));
        }
    }
}

impl InboxHandle {
    /// What the inbox did so far.
    pub fn stats(&self) -> InboxStats {
        self.shared.counters.snapshot()
    }

    /// How the inbox is.
    pub fn health(&self) -> InboxHealth {
        self.shared.vitals(|vitals| vitals.health(Instant::now()))
    }
}

/// An error with its cause.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    match error.source() {
        Some(source) => format!("{error}: {source}").into(),
        None => error.to_string().into(),
    }
}
