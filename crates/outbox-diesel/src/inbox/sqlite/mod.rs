//! The inbox in a SQLite file, beside the tables that its handlers change.
//!
//! SQLite has one writer at a time, so a transaction begins with the write lock (`BEGIN IMMEDIATE`) and nothing of what others wrote
//! meanwhile has to be waited for later: there are no deadlocks.

mod admin;
mod admitting;
mod asides;
mod builder;
mod check;
mod claiming;
mod committing;
mod completing;
mod connection;
mod error;
mod expected;
mod gate;
mod held;
mod memory;
mod row;
mod session;
mod sql;
mod storage;
mod transaction;
mod writer;

pub use builder::SqliteInboxBuilder;
pub use connection::{BlockingThreads, GuardedConnection, SqliteInboxConnection};
pub use storage::SqliteInbox;
pub use transaction::SqliteInboxTransaction;
