use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxBuildHasher;
use uuid::Uuid;

/// Suspects that are remembered; past it all are forgotten, and may be suspected again.
const MAX_SUSPECTS: usize = 100_000;

/// Messages that were open on a channel that the broker closed without naming one. They go through a channel of their own, one at a time, so that
/// only the one that is at fault is rejected. Kept over all sessions of a transport: the relay may send them again through the next.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    ids: Mutex<HashSet<Uuid, FxBuildHasher>>,
}

impl Suspects {
    pub(crate) fn add(&self, id: Uuid) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MAX_SUSPECTS {
            ids.clear();
        }
        ids.insert(id);
    }

    pub(crate) fn clear(&self, id: Uuid) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) fn contains(&self, id: Uuid) -> bool {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        !ids.is_empty() && ids.contains(&id)
    }
}
