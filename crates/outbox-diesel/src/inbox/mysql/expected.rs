use std::collections::{BTreeMap, BTreeSet};

use outbox_core::inbox::{Identity, OrderingKey};

use crate::inbox::shared::Status;

/// What a transaction must find when it reads its rows back.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The status of dedup rows.
    pub(super) messages: BTreeMap<Identity, Status>,
    pub(super) held: Vec<i64>,
    pub(super) dead: Vec<i64>,
    /// Held messages that are there no more.
    pub(super) completed: Vec<i64>,
    pub(super) parked: BTreeSet<OrderingKey>,
}

impl Expected {
    /// Whether the transaction has done nothing yet.
    pub(super) fn is_nothing(&self) -> bool {
        let Self { messages, held, dead, completed, parked } = self;
        messages.is_empty() && held.is_empty() && dead.is_empty() && completed.is_empty() && parked.is_empty()
    }
}
