//! The outbox in a MySQL or MariaDB database.

mod admin;
mod append;
pub(crate) mod append_rows;
mod backlog;
mod builder;
mod check;
pub(crate) mod connector;
pub(crate) mod error;
pub(crate) mod establish;
mod grants;
mod leases;
mod parked;
pub(crate) mod pool;
mod reader;
pub(crate) mod row;
pub(crate) mod session;
mod settler;
mod shared;
mod storage;
pub(crate) mod tls;
pub(crate) mod url;

pub use append::MysqlOutbox;
pub use builder::MysqlStorageBuilder;
pub use establish::establish;
pub use storage::MysqlStorage;
