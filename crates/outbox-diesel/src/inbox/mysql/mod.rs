//! The inbox in a MySQL or MariaDB database, beside the tables that its handlers change.

mod admin;
mod admitting;
mod asides;
mod builder;
mod check;
mod claiming;
mod committing;
mod completing;
mod error;
mod expected;
mod grants;
mod held;
mod json;
mod memory;
mod parking;
mod pool;
mod row;
mod rows;
mod session;
mod storage;
mod transaction;
mod work;

pub use builder::MysqlInboxBuilder;
pub use storage::MysqlInbox;
pub use transaction::MysqlInboxTransaction;
