//! The outbox in a SQLite database.

mod admin;
mod append;
pub(crate) mod append_rows;
mod backlog;
mod check;
pub(crate) mod connection;
pub(crate) mod error;
mod leases;
mod piece;
mod reader;
mod rows;
mod settler;
pub(crate) mod sql;
mod storage;
pub(crate) mod worker;

pub use append::SqliteOutbox;
pub use connection::{establish, establish_sync};
pub use storage::{SqliteStorage, SqliteStorageBuilder};

pub(crate) use error::storage_error;
