//! The outbox in a PostgreSQL database.

mod admin;
mod append;
mod append_rows;
mod backlog;
mod builder;
mod check;
pub(crate) mod connector;
pub(crate) mod error;
mod establish;
mod leases;
mod notifier;
mod parked;
pub(crate) mod pool;
mod reader;
pub(crate) mod row;
mod settler;
mod shared;
mod storage;
pub(crate) mod tls;
pub(crate) mod url;

pub use append::PostgresOutbox;
pub use builder::PostgresStorageBuilder;
pub use establish::establish;
pub use storage::PostgresStorage;
