//! The inbox in a PostgreSQL database, beside the tables that its handlers change.

mod admin;
mod admitting;
mod asides;
mod builder;
mod check;
mod committing;
mod completing;
mod error;
mod expected;
mod held;
mod memory;
mod parking;
mod row;
mod session;
mod sql;
mod storage;
mod transaction;

pub use builder::PostgresInboxBuilder;
pub use storage::PostgresInbox;
pub use transaction::PostgresInboxTransaction;
