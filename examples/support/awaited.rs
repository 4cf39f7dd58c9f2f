//! What the shop committed, compared with what arrives.

use std::collections::{BTreeMap, HashSet, VecDeque};

use anyhow::{Result, ensure};
use uuid::Uuid;

/// An event as a consumer got it.
pub(crate) struct Received {
    /// The id of the message: consumers deduplicate on it.
    pub(crate) id: Uuid,
    /// The ordering key.
    pub(crate) order_id: String,
    pub(crate) event_type: String,
    pub(crate) payload: String,
}

/// Events that were committed and have not arrived yet.
#[derive(Default)]
pub(crate) struct Awaited {
    by_order: BTreeMap<String, VecDeque<Uuid>>,
    arrived: HashSet<Uuid>,
}

impl Awaited {
    /// An event was committed, after every other one of its order that was told before.
    pub(crate) fn committed(&mut self, order_id: i64, id: Uuid) {
        self.by_order.entry(order_id.to_string()).or_default().push_back(id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_order.values().all(VecDeque::is_empty)
    }

    /// Takes what arrived, and says in a few words what it is.
    ///
    /// # Errors
    ///
    /// When it overtook an earlier event of its order.
    pub(crate) fn arrived(&mut self, event: &Received) -> Result<&'static str> {
        if !self.arrived.insert(event.id) {
            return Ok("again: skipped");
        }
        let Some(order) = self.by_order.get_mut(&event.order_id).filter(|order| order.contains(&event.id)) else {
            return Ok("not of this run");
        };
        ensure!(
            order.pop_front() == Some(event.id),
            "{} of order {} overtook an earlier event of its order",
            event.event_type,
            event.order_id
        );
        Ok("in order")
    }
}
