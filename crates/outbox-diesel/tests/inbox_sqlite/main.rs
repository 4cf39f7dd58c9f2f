//! The inbox's storage on SQLite.
#![cfg(all(feature = "inbox", feature = "sqlite"))]

mod conformance;
mod consumers;
mod database;
mod dropped;
mod engine;
mod handlers;
mod migrations;
mod refused_files;
