//! What the tests of the built command share.

pub(crate) mod kafka;
pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod rabbitmq;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest wait for anything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
///
/// # Panics
///
/// When it found nothing within [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", DEADLINE.as_secs());
        sleep(LOOK);
    }
}

/// A name that no other test and no other run uses.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}_{}", uuid::Uuid::now_v7().simple())
}

/// The value of a variable that `cargo xtask test` sets.
///
/// # Panics
///
/// When it is not set: a test without its service must not pass.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `cargo xtask test`, or `cargo xtask services up` and export what it prints")
    })
}

/// Runs a future to its end.
pub(crate) fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}
