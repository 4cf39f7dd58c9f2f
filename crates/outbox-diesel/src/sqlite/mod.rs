//! The outbox in a SQLite database.

mod connection;
mod error;

pub use connection::{OpenError, establish};

pub(crate) use error::storage_error;
