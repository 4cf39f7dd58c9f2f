//! The outbox's own migrations: plain SQL, applied with a version table of their own or printed for another tool.
//!
//! `up`, `down`, `status` and `verify` are in the modules `postgres`, `mysql` and `sqlite` behind their features; this module holds what
//! they share. The SQL is in `migrations/<backend>/NNNN_name/{up,down}.sql`.

mod catalog;
mod error;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
pub(crate) mod print;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod shared;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod status;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod transactional;

pub use catalog::{Backend, EXPECTED_VERSION, Migration};
pub use error::MigrationError;
pub use print::{print_down, print_up};
pub use status::{AppliedMigration, Direction, MigrationStatus, PendingRows, Unfinished};
