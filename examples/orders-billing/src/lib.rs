//! Three services in a chain, each with its own tables:
//!
//! ```text
//! orders ── outbox ─► Kafka ─► inbox ── billing ── outbox ─► RabbitMQ ─► inbox ── ledger
//! ```
//!
//! An order becomes one invoice and one entry of the ledger, whatever is delivered again and whoever is killed in between: the amounts of a day
//! have the same sum at each stage. The orders service ends a day with its control totals, and each of the others ends when what it
//! has itself, counted by its own database, is what the totals say.
//!
//! `src/bin` has the three programs; each says how to run it. Here is what they share.

pub mod day;
pub mod events;
pub mod service;
pub mod topic;
