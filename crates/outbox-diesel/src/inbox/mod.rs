//! Storage of the inbox: what deduplicating consumers (the crate `outbox-inbox`) keep in the database beside the tables that their
//! handlers change.

pub mod migrations;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod shared;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod tables;

pub use tables::{DEFAULT_INBOX_PREFIX, InboxTables};
