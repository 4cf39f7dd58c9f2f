//! The outbox in a MySQL or MariaDB database.
