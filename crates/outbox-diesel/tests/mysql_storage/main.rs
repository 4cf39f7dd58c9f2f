//! The MySQL storage against a real server, which `OUTBOX_TEST_MYSQL_URL` names (`cargo xtask test` sets it).
#![cfg(feature = "mysql")]
#![allow(clippy::print_stdout)] // figures, shown when a test fails

mod conformance;
mod connections;
mod database;
mod held_snapshots;
mod pauses;
mod plans;
mod producers;
mod refused_rows;
mod refused_servers;
mod scheduled;
#[cfg(feature = "mysql-tls")]
mod tls;
