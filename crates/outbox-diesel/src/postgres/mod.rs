//! The outbox in a PostgreSQL database.

mod admin;
mod append;
mod append_rows;
mod backlog;
mod builder;
mod check;
mod connector;
mod error;
mod establish;
mod leases;
mod notifier;
mod parked;
mod pool;
mod reader;
mod row;
mod settler;
mod shared;
mod storage;
mod tls;
mod url;

pub use append::PostgresOutbox;
pub use builder::PostgresStorageBuilder;
pub use establish::establish;
pub use storage::PostgresStorage;
