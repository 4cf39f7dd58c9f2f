//! SQLite keeps the contract of the storage ports.
#![cfg(feature = "sqlite")]

mod sqlite_support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes_the_storage_suite() {
    outbox_testkit::storage_suite::run(&sqlite_support::SqliteFixture).await;
}
