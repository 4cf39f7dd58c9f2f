//! The PostgreSQL storage against a real server, which `OUTBOX_TEST_POSTGRES_URL` names (`cargo xtask test` sets it).
#![cfg(feature = "postgres")]

mod conformance;
mod connections;
mod database;
mod idle_transactions;
mod notify;
mod order;
mod plain_inserts;
mod plans;
mod refused_rows;
mod refused_servers;
mod roles;
mod scheduled;
mod skimming;
#[cfg(feature = "postgres-tls")]
mod tls;
