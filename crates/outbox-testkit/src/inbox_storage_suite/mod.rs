//! The conformance suite of an inbox's storage: every sentence of the contracts of [`InboxStorage`] and its ports, as a case.
//!
//! For a storage of your own write an [`InboxStorageFixture`]: how to make an empty database, and what a handler does in it.

mod admitting;
mod claiming;
mod committing;
mod completing;
mod dead_letters;
mod fields;
mod fixture;
mod parking;
mod putting_aside;
mod remembering;
mod subject;

pub use fixture::{InboxDatabase, InboxStorageFixture};

use outbox_core::inbox::InboxStorage;
use tokio::time::Instant;

use crate::case::{Case, Verdict, attempt, chain};
use subject::Subject;

/// Runs every case, each on a database of its own, one after the other, and prints the name of each.
///
/// Call it from a test of its own. A storage whose clock follows tokio's may run it on paused time.
///
/// # Panics
///
/// With the list of the cases that failed.
///
/// # Cancellation
///
/// Dropping the future leaves the database of the case that ran.
pub async fn run<F: InboxStorageFixture>(fixture: &F) {
    let mut verdict = Verdict::default();
    let alone = all_cases::<F::Storage>().into_iter().map(|case| (case, false));
    for (case, needs_two) in alone.chain(cases_of_two().into_iter().map(|case| (case, true))) {
        let start = Instant::now();
        match run_case(fixture, &case, needs_two).await {
            Ok(true) => verdict.record(case.name, start.elapsed(), Ok(())),
            Ok(false) => Verdict::not_applicable(case.name, "only one transaction can write"),
            Err(reason) => verdict.record(case.name, start.elapsed(), Err(reason)),
        }
    }
    verdict.conclude("inbox storage suite");
}

fn all_cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    [
        admitting::cases(),
        committing::cases(),
        putting_aside::cases(),
        claiming::cases(),
        completing::cases(),
        parking::cases(),
        dead_letters::cases(),
        fields::cases(),
        remembering::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cases_of_two<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    [admitting::cases_of_two(), committing::cases_of_two(), completing::cases_of_two(), parking::cases_of_two()]
        .into_iter()
        .flatten()
        .collect()
}

/// `false`: it does not apply.
async fn run_case<F: InboxStorageFixture>(
    fixture: &F,
    case: &Case<Subject<F::Storage>>,
    needs_two: bool,
) -> Result<bool, String> {
    let database = fixture.fresh().await.map_err(|error| format!("no fresh database: {}", chain(&*error)))?;
    if needs_two && !database.concurrent_transactions() {
        return database.drop_database().await.map(|()| false).map_err(|error| chain(&*error));
    }
    let subject = Subject::new(database);
    let checked = subject.storage.check().await.map(drop).map_err(|error| format!("check: {}", chain(&error)));
    let result = match checked {
        Ok(()) => attempt((case.run)(&subject)).await,
        Err(error) => Err(error),
    };
    let dropped = subject.database.drop_database().await;
    dropped.map_err(|error| format!("drop_database: {}", chain(&*error))).and(result).map(|()| true)
}

/// A list of cases from functions `async fn name<S: InboxStorage>(subject: &Subject<S>)`.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        vec![$($crate::case::Case { name: stringify!($case), run: |subject| Box::pin($case(subject)) }),+]
    };
}
pub(super) use cases;
