//! Storage of the transactional outbox on Diesel: PostgreSQL, MySQL/MariaDB and SQLite.
//!
//! A service appends messages through its own connection, in its own transaction; the relay reads and settles them
//! through a storage of this crate.
//!
//! | feature | append | relay | migrations |
//! |---|---|---|---|
//! | `postgres` (`postgres-tls` adds TLS) | `postgres::PostgresOutbox` | `postgres::PostgresStorage` | `migrations::postgres` |
//! | `mysql` (`mysql-tls` adds TLS) | `mysql::MysqlOutbox` | `mysql::MysqlStorage` | `migrations::mysql` |
//! | `sqlite` | `sqlite::SqliteOutbox` | `sqlite::SqliteStorage` | `migrations::sqlite` |
//!
//! The feature `inbox` adds the storage of deduplicating consumers (the crate `outbox-inbox`): `inbox::postgres`, `inbox::mysql` and
//! `inbox::sqlite`.
//!
//! [`Tables`] says where the tables are. `docs/roles.md` has the grants that each program needs.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod append;
#[cfg(feature = "inbox")]
pub mod inbox;
pub mod migrations;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod reading;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod tables;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use append::AppendError;
pub use tables::{DEFAULT_PREFIX, InvalidTables, Tables};
