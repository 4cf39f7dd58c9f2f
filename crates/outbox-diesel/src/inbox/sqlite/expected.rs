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
