//! Waiting for a condition, never longer than a limit, and never past Ctrl-C.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::interrupt;

const PAUSE: Duration = Duration::from_millis(25);

/// Asks `condition` until it answers a value.
///
/// # Errors
///
/// The condition's own error; `what` was not there within `limit`; the program was asked to end.
pub fn wait<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        interrupt::check()?;
        if begun.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(PAUSE);
    }
}

/// Like [`wait`] for clean-up: goes on after Ctrl-C, and answers whether the condition became true.
pub fn settles(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > limit {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}
