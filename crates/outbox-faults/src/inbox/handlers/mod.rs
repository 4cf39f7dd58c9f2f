//! What a message changes: its own counter, the counter of its key, and a row in a log. None of it is kept from happening twice by a
//! constraint, so that a second time would show.

pub(super) mod mysql;
pub(super) mod postgres;

use outbox::Event;

use super::stream::{Body, EVENT};

/// What a handler does beside its work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whims {
    /// It updates two shared rows in random order.
    pub(super) deadlocks: bool,
}

/// The shared rows, in the order of this transaction.
fn shared_rows() -> [&'static str; 2] {
    if rand::random() { ["a", "b"] } else { ["b", "a"] }
}

impl Event for Body {
    const AGGREGATE_TYPE: &'static str = "fault-run";
    const EVENT_TYPE: &'static str = EVENT;

    fn aggregate_id(&self) -> Option<String> {
        Some(self.key.clone())
    }
}
