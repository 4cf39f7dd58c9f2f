//! The in-memory adapters pass the conformance suites.

use outbox_core::ports::LaneOrdering;
use outbox_testkit::memory::{MemoryStorage, MemoryTransport};
use outbox_testkit::{storage_suite, transport_suite};

#[tokio::test(start_paused = true)]
async fn the_storage_with_many_shards_passes_on_paused_time() {
    storage_suite::run(&MemoryStorage::fixture(16)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_with_one_shard_passes_on_real_time() {
    storage_suite::run(&MemoryStorage::fixture(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipelined_transport_passes() {
    transport_suite::run(&MemoryTransport::fixture(LaneOrdering::Pipelined)).await;
}

#[tokio::test(start_paused = true)]
async fn the_transport_with_one_message_in_flight_a_lane_passes() {
    transport_suite::run(&MemoryTransport::fixture(LaneOrdering::OneInFlight)).await;
}
