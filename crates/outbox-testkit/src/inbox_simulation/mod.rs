//! The seeded simulation of the inbox: the real engine against the in-memory database and broker, on paused time, with faults at each step.
//!
//! A seed decides everything: what is published how often and in which order, how handlers fail, hang and deadlock, what is lost on the
//! way to the database, when processes crash or stand still while others take their partitions over, what an operator does with keys and dead letters. [`run`] lets it happen and checks the
//! promise: every message is applied exactly once or is a dead letter, in order per key, and all of it ends with nobody's help.
//!
//! ```
//! use outbox_testkit::inbox_simulation::{self, Options};
//!
//! let summary = inbox_simulation::run(42, &Options::default()).expect("seed 42 keeps the promise");
//! assert!(summary.applied > 0);
//! ```

mod checks;
mod defect;
mod faults;
mod handler;
mod operator;
mod processes;
mod scenario;
mod storage;
mod world;

pub use checks::{Violation, ViolationKind};
pub use defect::Defect;

use std::sync::Arc;
use std::time::Duration;

use scenario::Scenario;
use world::World;

/// How long everything may take to be applied, in virtual time, once the faults have ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(300);

/// How to run a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A deliberate defect.
    pub defect: Option<Defect>,
}

/// What happened in a run that kept the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Different messages that were published.
    pub messages: u64,
    /// Deliveries beyond the first of each, as published.
    pub repeated: u64,
    /// Messages that were applied.
    pub applied: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters that the operator replayed.
    pub replayed: u64,
    /// Processes that were started.
    pub processes: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Calls of handlers.
    pub calls: u64,
}

/// Runs one seed. The same seed and options give the same run, always.
///
/// # Errors
///
/// The first [`Violation`] of the promise.
///
/// # Panics
///
/// When called from within a tokio runtime: it makes its own.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could be missing");
    runtime.block_on(async {
        let world = World::new(Scenario::of_seed(seed, options.defect));
        whole_run(&world).await;
        world.conclude()
    })
}

async fn whole_run(world: &Arc<World>) {
    for _ in 0..world.scenario.processes {
        processes::start(world);
    }
    tokio::spawn(operator::work(world.clone()));
    tokio::join!(world.publish_everything(), faults::strike(world));
    world.heal();
    let ended = world.until(DRAIN_LIMIT, || world.is_broken() || world.is_drained()).await;
    if !ended {
        let what = format!("{} after {DRAIN_LIMIT:?} without faults", world.waiting());
        world.violated(ViolationKind::Stuck, what);
    }
    world.check();
    processes::all_leave(world).await;
}
