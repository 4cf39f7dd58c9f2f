//! What the services tell each other. Services of different teams would have a copy each, of the fields that they need.

use outbox::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An order was placed.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// The day that it counts in.
    pub day: Uuid,
    /// The order: events of one order are in order.
    pub order_id: i64,
    /// What it costs.
    pub total_cents: i64,
}

/// A day has no more orders. Other orders of it may arrive later than this: it has a key of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrdersClosed {
    /// The day.
    pub day: Uuid,
    /// How many orders it has.
    pub orders: i64,
    /// What they cost together.
    pub total_cents: i64,
}

/// An invoice was issued for an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct InvoiceIssued {
    /// The day that it counts in.
    pub day: Uuid,
    /// The order that it is for.
    pub order_id: i64,
    /// What is to be paid.
    pub total_cents: i64,
}

/// A day will have as many invoices as this says.
#[derive(Debug, Serialize, Deserialize)]
pub struct InvoicesClosed {
    /// The day.
    pub day: Uuid,
    /// How many invoices it will have.
    pub invoices: i64,
    /// What they will come to.
    pub total_cents: i64,
}

impl Event for OrderPlaced {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.placed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

impl Event for OrdersClosed {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.day_closed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.day.to_string())
    }
}

impl Event for InvoiceIssued {
    const AGGREGATE_TYPE: &'static str = "invoice";
    const EVENT_TYPE: &'static str = "invoice.issued";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

impl Event for InvoicesClosed {
    const AGGREGATE_TYPE: &'static str = "invoice";
    const EVENT_TYPE: &'static str = "invoice.day_closed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.day.to_string())
    }
}
