use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::ports::{StorageError, StorageErrorKind};

use crate::simulation::world::{State, World, on_server};

/// One process's way to the database.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) relay: usize,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    /// Fails and changes nothing.
    Refused(StorageErrorKind),
    /// Takes effect; the reply is lost.
    ReplyLost(StorageErrorKind),
    /// The caller crashes when the request arrives.
    CrashBefore,
    /// The caller crashes when it took effect.
    CrashAfter,
}

#[derive(Debug)]
struct Course {
    fate: Fate,
    there: Duration,
    back: Duration,
}

impl Course {
    /// So slow that a lease may have run out meanwhile.
    fn is_slow(&self) -> bool {
        self.there + self.back >= Duration::from_millis(100)
    }
}

/// Counts as long as it lives.
struct SlowCall(Arc<World>);

impl SlowCall {
    fn begin(world: &Arc<World>) -> Self {
        world.lock().slow_calls += 1;
        Self(world.clone())
    }
}

impl Drop for SlowCall {
    fn drop(&mut self) {
        self.0.lock().slow_calls -= 1;
    }
}

impl Client {
    /// One statement.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        statement: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let world = self.world.clone();
        self.call_long(name, async move { world.step(statement) }).await
    }

    /// Work in the database that takes time.
    pub(super) async fn call_long<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (world, relay) = (self.world.clone(), self.relay);
        let course = world.step(|state| self.course(state, name));
        let slow = course.is_slow().then(|| SlowCall::begin(&world));
        let reply = on_server(async move {
            let _slow = slow;
            wait(course.there).await;
            match course.fate {
                Fate::Refused(kind) => return Err(failed(name, kind)),
                Fate::CrashBefore => world.step(|state| state.crash(relay)),
                _ if world.lock().is_database_down() => return Err(failed(name, StorageErrorKind::Unavailable)),
                _ => {}
            }
            let value = work.await;
            if course.fate == Fate::CrashAfter {
                world.step(|state| state.crash(relay));
            }
            wait(course.back).await;
            if course.is_slow() {
                world.lock().ledger.fault(0);
            }
            match course.fate {
                Fate::ReplyLost(kind) => Err(failed(name, kind)),
                _ if world.lock().is_database_down() => Err(failed(name, StorageErrorKind::Unavailable)),
                _ => Ok(value),
            }
        });
        reply.await.unwrap_or_else(|_| Err(failed(name, StorageErrorKind::Unavailable)))
    }

    fn course(&self, state: &mut State, name: &'static str) -> Course {
        let every = self.world.scenario.storage_fault_every;
        let fault = !state.calm && state.dice.once_in(every);
        let mut course = Course { fate: Fate::Served, there: short(state), back: short(state) };
        let is_fenced = matches!(name, "retry_later" | "bury");
        if every > 0 && !state.calm && is_fenced && state.dice.once_in(8) {
            // so late that another relay may own the shard by then
            let lease = u64::try_from(self.world.scenario.relay.lease_duration.as_millis()).unwrap_or(1_000);
            course.there = state.dice.millis(lease / 2, lease * 3);
            state.ledger.fault(1);
            return course;
        }
        if !fault {
            return course;
        }
        state.ledger.fault(1);
        let kind = state.dice.pick(&[
            StorageErrorKind::Unavailable,
            StorageErrorKind::Unavailable,
            StorageErrorKind::Conflict,
            StorageErrorKind::Exhausted,
        ]);
        match state.dice.between(0, 8) {
            0 | 1 => course.fate = Fate::Refused(kind),
            2 | 3 => course.fate = Fate::ReplyLost(kind),
            4 => course.fate = Fate::CrashBefore,
            5 => course.fate = Fate::CrashAfter,
            6 => course.there = state.dice.millis(50, 5_000),
            _ => course.back = state.dice.millis(50, 5_000),
        }
        let (relay, fate) = (self.relay, &course);
        state.note(|| format!("relay {relay}: {name} meets {fate:?}"));
        course
    }
}

fn short(state: &mut State) -> Duration {
    if state.dice.once_in(20) { state.dice.millis(5, 40) } else { state.dice.millis(0, 4) }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn failed(name: &str, kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, format!("{name}: simulated fault"))
}
