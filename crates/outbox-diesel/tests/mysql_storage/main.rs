//! The MySQL storage against a real server, which `OUTBOX_TEST_MYSQL_URL` names (`cargo xtask test` sets it).
#![cfg(feature = "mysql")]

mod conformance;
mod database;
