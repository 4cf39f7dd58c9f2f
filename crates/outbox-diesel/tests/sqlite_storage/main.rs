//! The SQLite storage: the contract of its ports, and what is SQLite's own.
#![cfg(feature = "sqlite")]
#![allow(unreachable_pub)]

mod faults;
mod fixture;
mod plain_inserts;
mod refusals;
mod support;
mod waiting;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes_the_storage_suite() {
    outbox_testkit::storage_suite::run(&fixture::SqliteFixture).await;
}
