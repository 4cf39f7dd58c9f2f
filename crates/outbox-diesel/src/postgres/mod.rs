//! The outbox in a PostgreSQL database.

mod append;
mod append_rows;

pub use append::PostgresOutbox;
