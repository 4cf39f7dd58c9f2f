//! The inbox's storage on MySQL and MariaDB against a real server, which `OUTBOX_TEST_MYSQL_URL` names (`cargo xtask test` sets it).
#![cfg(all(feature = "inbox", feature = "mysql"))]

mod conformance;
mod consumers;
mod database;
mod dropped;
mod ended;
mod engine;
#[path = "../both_servers/inbox_losing.rs"]
mod losing;
mod migrations;
mod refused_servers;
mod roles;
