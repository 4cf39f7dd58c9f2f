//! The inbox's storage on PostgreSQL against a real server, which `OUTBOX_TEST_POSTGRES_URL` names (`cargo xtask test` sets it).
#![cfg(all(feature = "inbox", feature = "postgres"))]

mod bad_input;
mod conformance;
mod consumers;
mod database;
mod dropped;
mod engine;
#[path = "../both_servers/inbox_losing.rs"]
mod losing;
mod migrations;
mod refused_servers;
mod roles;
