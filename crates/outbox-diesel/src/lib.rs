//! Storage of the transactional outbox on Diesel: PostgreSQL and SQLite.
//!
//! A service appends messages through its own connection, in its own transaction; the relay reads and settles them
//! through a storage of this crate.

pub mod migrations;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod tables;

pub use tables::{DEFAULT_PREFIX, InvalidTables, Tables};
