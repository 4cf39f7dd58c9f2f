//! The outbox in a SQLite database.

mod admin;
mod append;
mod append_rows;
mod backlog;
mod check;
mod connection;
mod error;
mod leases;
mod piece;
mod reader;
mod rows;
mod settler;
mod sql;
mod storage;
mod worker;

pub use append::SqliteOutbox;
pub use connection::{establish, establish_sync};
pub use storage::{SqliteStorage, SqliteStorageBuilder};

pub(crate) use error::storage_error;
