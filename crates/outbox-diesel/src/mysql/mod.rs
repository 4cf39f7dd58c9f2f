//! The outbox in a MySQL or MariaDB database.

mod append;
mod append_rows;

pub use append::MysqlOutbox;
