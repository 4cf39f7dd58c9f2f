//! The in-memory adapters of the inbox pass the conformance suites.

use outbox_core::inbox::Acknowledging;
use outbox_testkit::memory::{MemoryInbox, MemorySource};
use outbox_testkit::{inbox_storage_suite, source_suite};

#[tokio::test(start_paused = true)]
async fn the_storage_passes_on_paused_time() {
    inbox_storage_suite::run(&MemoryInbox::fixture()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_passes_on_real_time() {
    inbox_storage_suite::run(&MemoryInbox::fixture()).await;
}

#[tokio::test(start_paused = true)]
async fn the_source_with_cumulative_acknowledgements_passes() {
    source_suite::run(&MemorySource::fixture(Acknowledging::Cumulative)).await;
}

#[tokio::test(start_paused = true)]
async fn the_source_with_individual_acknowledgements_passes() {
    source_suite::run(&MemorySource::fixture(Acknowledging::Individual)).await;
}
