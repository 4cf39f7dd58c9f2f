//! The conformance suite of a storage: every sentence of the contracts in [`outbox_core::ports`], as a case.
//!
//! For a storage of your own write a [`StorageFixture`]: how to make an empty database, how to append to it inside a
//! transaction, and what is pending in it.

mod appending;
mod burying;
mod fencing;
mod fields;
mod fixture;
mod late_commits;
mod leases;
mod overview;
mod parking;
mod reading;
mod relays;
mod scan;
mod settling;
mod subject;
mod sweeping;
mod waiting;

pub use fixture::{PendingRow, StorageFixture, TestDatabase, TestTransaction};

use tokio::time::Instant;

use crate::case::{Case, Verdict, attempt, chain};
use subject::Subject;

/// Runs every case, each on a database of its own, one after the other, and prints the name of each.
///
/// Call it from a test of its own on a multi-thread or current-thread runtime. A storage whose clock follows tokio's
/// may run it on paused time.
///
/// # Panics
///
/// With the list of the cases that failed.
///
/// # Cancellation
///
/// Dropping the future leaves the database of the case that ran.
pub async fn run(fixture: &dyn StorageFixture) {
    let mut verdict = Verdict::default();
    for case in CASES.iter().copied().flatten() {
        let start = Instant::now();
        let result = run_case(fixture, case).await;
        match result {
            Ok(Ran::Passed) => verdict.record(case.name, start.elapsed(), Ok(())),
            Ok(Ran::OneWriter) => {
                Verdict::not_applicable(case.name, "only one writer can be open, which another case proves")
            }
            Err(reason) => verdict.record(case.name, start.elapsed(), Err(reason)),
        }
    }
    verdict.conclude("storage suite");
}

const CASES: &[&[Case<Subject>]] = &[
    appending::CASES,
    fields::CASES,
    reading::CASES,
    late_commits::CASES,
    late_commits::CONCURRENT_CASES,
    waiting::CASES,
    settling::CASES,
    fencing::CASES,
    burying::CASES,
    parking::CASES,
    sweeping::CASES,
    leases::CASES,
    relays::CASES,
    overview::CASES,
];

enum Ran {
    Passed,
    OneWriter,
}

async fn run_case(fixture: &dyn StorageFixture, case: &Case<Subject>) -> Result<Ran, String> {
    let database = fixture.fresh().await.map_err(|error| format!("no fresh database: {}", chain(&*error)))?;
    let (database, result) = try_case(database, case).await;
    database.drop_database().await.map_err(|error| format!("drop_database: {}", chain(&*error))).and(result)
}

async fn try_case(
    database: Box<dyn TestDatabase>,
    case: &Case<Subject>,
) -> (Box<dyn TestDatabase>, Result<Ran, String>) {
    let needs_two_writers = late_commits::CONCURRENT_CASES.iter().any(|other| other.name == case.name);
    if needs_two_writers && !database.concurrent_writers() {
        return (database, Ok(Ran::OneWriter));
    }
    match database.storage().check().await {
        Ok(profile) => {
            let subject = Subject::new(database, &profile);
            let result = attempt((case.run)(&subject)).await;
            (subject.database, result.map(|()| Ran::Passed))
        }
        Err(error) => (database, Err(format!("check: {}", chain(&error)))),
    }
}
