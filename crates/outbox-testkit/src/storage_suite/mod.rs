//! The conformance suite of a storage: every sentence of the contracts in [`outbox_core::ports`], as a case.
//!
//! For a storage of your own write a [`StorageFixture`]: how to make an empty database, how to append to it inside a
//! transaction, and what is pending in it.

mod appending;
mod fields;
mod fixture;
mod reading;
mod scan;
mod subject;

pub use fixture::{PendingRow, StorageFixture, TestDatabase, TestTransaction};

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
    for case in all_cases() {
        verdict.record(case.name, run_case(fixture, case).await);
    }
    verdict.conclude("storage suite");
}

fn all_cases() -> impl Iterator<Item = &'static Case<Subject>> {
    [appending::CASES, fields::CASES, reading::CASES].into_iter().flatten()
}

async fn run_case(fixture: &dyn StorageFixture, case: &Case<Subject>) -> Result<(), String> {
    let database = fixture.fresh().await.map_err(|error| format!("no fresh database: {}", chain(&*error)))?;
    let profile = database.storage().check().await;
    let (database, result) = match profile {
        Ok(profile) => {
            let subject = Subject::new(database, &profile);
            let result = attempt((case.run)(&subject)).await;
            (subject.database, result)
        }
        Err(error) => (database, Err(format!("check: {}", chain(&error)))),
    };
    let dropped = database.drop_database().await.map_err(|error| format!("drop_database: {}", chain(&*error)));
    result.and(dropped)
}
