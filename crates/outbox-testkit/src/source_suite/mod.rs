//! The conformance suite of a source: every sentence of the contracts of [`Source`](outbox_core::inbox::Source) and
//! [`Subscription`](outbox_core::inbox::Subscription), as a case.
//!
//! For a source of your own write a [`SourceFixture`]: how to make a stream, and how to publish to it.

mod acknowledging;
mod fixture;
mod member;
mod receiving;
mod sharing;

pub use fixture::{Published, SourceFixture, TestStream};

use tokio::time::Instant;

use crate::case::{Case, Verdict, attempt, chain};
use member::Subject;

/// Runs every case, each on a stream of its own, one after the other, and prints the name of each.
///
/// # Panics
///
/// With the list of the cases that failed.
///
/// # Cancellation
///
/// Dropping the future leaves the stream of the case that ran.
pub async fn run(fixture: &dyn SourceFixture) {
    let mut verdict = Verdict::default();
    let start = Instant::now();
    let result = attempt(receiving::an_unreachable_broker_is_unavailable(fixture)).await;
    verdict.record("an_unreachable_broker_is_unavailable", start.elapsed(), result);
    for case in [receiving::CASES, acknowledging::CASES, sharing::CASES].into_iter().flatten() {
        let start = Instant::now();
        let result = run_case(fixture, case).await;
        verdict.record(case.name, start.elapsed(), result);
    }
    verdict.conclude("source suite");
}

async fn run_case(fixture: &dyn SourceFixture, case: &Case<Subject>) -> Result<(), String> {
    let stream = fixture.fresh().await.map_err(|error| format!("no fresh stream: {}", chain(&*error)))?;
    let subject = Subject::new(stream);
    let result = attempt((case.run)(&subject)).await;
    subject.stream.remove().await.map_err(|error| format!("remove: {}", chain(&*error))).and(result)
}
