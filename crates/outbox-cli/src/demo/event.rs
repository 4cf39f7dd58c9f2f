use outbox::Event;
use serde::{Deserialize, Serialize};

/// What becomes a topic name.
pub(super) const AGGREGATE_TYPE: &str = "order";

/// The event that the demo's writers append for each change of an order.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderChanged {
    /// The ordering key, and the account that is charged.
    pub(super) order_id: i64,
    /// Counts the committed changes of the order from 1, without a gap: what the order of delivery is checked against.
    pub(super) version: i64,
    /// Where the order is in its life.
    pub(super) status: String,
    /// What the change charges to the order's account.
    pub(super) amount_cents: i64,
}

impl OrderChanged {
    /// The change that made a version of an order.
    pub(super) fn new(order_id: i64, version: i64) -> Self {
        let status = match version {
            1 => "placed",
            2 => "paid",
            3 => "shipped",
            _ => "amended",
        };
        let amount_cents = 990 + (order_id * 37 + version * 11) % 9_000;
        Self { order_id, version, status: status.to_owned(), amount_cents }
    }
}

impl Event for OrderChanged {
    const AGGREGATE_TYPE: &'static str = AGGREGATE_TYPE;
    const EVENT_TYPE: &'static str = "order.changed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}
