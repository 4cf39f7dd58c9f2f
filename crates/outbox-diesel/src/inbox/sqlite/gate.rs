//! Who may write: one after the other, in the order in which they came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use outbox_core::ports::{StorageError, StorageErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{is_busy, statement_error};

/// The writers of one storage. Without it they would meet in SQLite, where who waits only looks now and then whether the lock is free, and
/// who comes at the right moment has it.
#[derive(Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    rest: Arc<Mutex<Rest>>,
}

/// When the file is left to writers of other programs. SQLite wakes nobody: who waits looks for the lock now and then, and a program that commits without
/// a pause would keep everybody out until they give up.
struct Rest {
    closed_until: Instant,
    /// How long transactions took since the last long rest.
    busy: Duration,
}

/// After each transaction a part of the time that it took.
const SHORT_REST_PART: u32 = 8;
/// After so much work, as long as SQLite's own busy handler ever sleeps between two looks, and a little more: then whoever waits gets in.
const WORK: Duration = Duration::from_secs(1);
const LONG_REST: Duration = Duration::from_millis(120);

/// The right to write, until it is dropped.
pub(super) struct Permit {
    gate: Gate,
    given_at: Instant,
    _place: OwnedSemaphorePermit,
}

/// How long SQLite waits for writers of other programs before it is asked again. It looks ever more rarely, up to ten times a second, and would hardly ever
/// get between the transactions of a program that is busy.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn new() -> Self {
        let rest = Rest { closed_until: Instant::now(), busy: Duration::ZERO };
        Self { places: Arc::new(Semaphore::new(1)), rest: Arc::new(Mutex::new(rest)) }
    }

    /// Waits for the right to write, and says until when SQLite's lock may be waited for. Dropping the future gives up the place in the queue.
    pub(super) async fn enter(&self, what: &str, limit: Duration) -> Result<(Permit, Instant), StorageError> {
        let deadline = Instant::now() + limit;
        match tokio::time::timeout(limit, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => {
                let closed_until = self.rest.lock().unwrap_or_else(PoisonError::into_inner).closed_until;
                tokio::time::sleep_until(closed_until.min(deadline).into()).await;
                Ok((Permit { gate: self.clone(), given_at: Instant::now(), _place: place }, deadline))
            }
            Ok(Err(closed)) => {
                let message = format!("cannot {what}: the storage is closed");
                Err(StorageError::new(StorageErrorKind::Unavailable, message).with_source(closed))
            }
            Err(_) => {
                let ms = limit.as_millis();
                let message =
                    format!("cannot {what}: other transactions of this program held the write lock for {ms} ms");
                Err(StorageError::new(StorageErrorKind::Conflict, message))
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.rest.lock().unwrap_or_else(PoisonError::into_inner).after(self.given_at, Instant::now());
    }
}

impl Rest {
    /// A transaction took this time.
    fn after(&mut self, began: Instant, ended: Instant) {
        if began.saturating_duration_since(self.closed_until) >= LONG_REST {
            self.busy = Duration::ZERO; // nobody has written meanwhile
        }
        let took = ended.saturating_duration_since(began);
        self.busy += took;
        let rest = if self.busy < WORK {
            (took / SHORT_REST_PART).min(LONG_REST)
        } else {
            self.busy = Duration::ZERO;
            LONG_REST
        };
        self.closed_until = ended + rest;
    }
}

/// Begins a transaction with SQLite's write lock, which other programs may have until the deadline. Gives up when `caller`'s other end is gone.
pub(super) fn begin(
    sqlite: &mut SqliteConnection,
    what: &str,
    deadline: Instant,
    caller: &oneshot::Sender<()>,
) -> Result<(), StorageError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let begun = wait_for_locks(sqlite, left.min(LOOK_EVERY))
            .and_then(|()| AnsiTransactionManager::begin_transaction_sql(sqlite, "BEGIN IMMEDIATE"));
        match begun {
            Err(error) if is_busy(&error) && !left.is_zero() && !caller.is_closed() => {}
            begun => return begun.map_err(|error| statement_error(what, error)),
        }
    }
}

/// How long statements wait for a lock of others.
pub(super) fn wait_for_locks(sqlite: &mut SqliteConnection, limit: Duration) -> diesel::QueryResult<()> {
    let ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    sqlite.batch_execute(&format!("PRAGMA busy_timeout = {ms}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_busy_program_rests_long_enough_for_whoever_waits() {
        let start = Instant::now();
        let (mut rest, mut now, mut longest, mut rested) =
            (Rest { closed_until: start, busy: Duration::ZERO }, start, Duration::ZERO, Duration::ZERO);
        for _ in 0..1_000 {
            let ended = now + 30 * MS;
            rest.after(now, ended);
            longest = longest.max(rest.closed_until - ended);
            rested += rest.closed_until - ended;
            now = rest.closed_until;
        }
        assert_eq!(longest, LONG_REST);
        assert!(rested * 4 < now - start, "it rests for {rested:?} of {:?}", now - start);
    }

    #[test]
    fn a_program_that_writes_now_and_then_hardly_rests() {
        let start = Instant::now();
        let mut rest = Rest { closed_until: start, busy: Duration::ZERO };
        for n in 0..1_000 {
            let began = start + n * 500 * MS;
            rest.after(began, began + 8 * MS);
            assert_eq!(rest.closed_until, began + 9 * MS);
        }
    }
}
