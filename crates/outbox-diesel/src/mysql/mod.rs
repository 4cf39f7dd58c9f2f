//! The outbox in a MySQL or MariaDB database.

mod admin;
mod append;
mod append_rows;
mod backlog;
mod builder;
mod check;
mod connector;
mod error;
mod establish;
mod grants;
mod leases;
mod parked;
mod pool;
mod reader;
mod row;
mod session;
mod settler;
mod shared;
mod storage;
mod tls;
mod url;

pub use append::MysqlOutbox;
pub use builder::MysqlStorageBuilder;
pub use establish::establish;
pub use storage::MysqlStorage;
