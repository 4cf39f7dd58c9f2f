//! The outbox in a SQLite database.

mod append;
mod append_rows;
mod connection;
mod error;

pub use append::SqliteOutbox;
pub use connection::{OpenError, establish};

pub(crate) use error::storage_error;
