//! The conformance suite of a transport: every sentence of the contracts of [`Transport`](outbox_core::ports::Transport)
//! and [`Session`](outbox_core::ports::Session), as a case.
//!
//! For a transport of your own write a [`TransportFixture`]: how to make a destination and what arrived there.

mod delivery;
mod dispatch;
mod failures;
mod fixture;

pub use fixture::{Received, TransportFixture};

use tokio::time::Instant;

use crate::case::{Case, Verdict, attempt};

/// Runs every case one after the other and prints the name of each.
///
/// # Panics
///
/// With the list of the cases that failed.
///
/// # Cancellation
///
/// Dropping the future leaves the destinations of the cases that ran.
pub async fn run(fixture: &(dyn TransportFixture + 'static)) {
    let mut verdict = Verdict::default();
    for case in all_cases() {
        let start = Instant::now();
        let result = attempt((case.run)(fixture)).await;
        verdict.record(case.name, start.elapsed(), result);
    }
    verdict.conclude("transport suite");
}

fn all_cases() -> impl Iterator<Item = &'static Case<dyn TransportFixture>> {
    [delivery::CASES, failures::CASES].into_iter().flatten()
}
