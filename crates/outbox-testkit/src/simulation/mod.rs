//! The seeded simulation: the real relay and the real order rule against a modelled database and a modelled broker,
//! on paused time, with faults at each step.
//!
//! A seed decides everything: the writers, their transactions and locks, the latencies, the faults, and what operators
//! do. [`run`] lets it happen and checks the promise of the outbox while it does: nothing lost, no ghost, order per key,
//! duplicates only after a fault and within one window for each, no attempt burned without a refusal, nothing handed over
//! past a lease, and a backlog that drains with nobody's help once the faults have ended.
//!
//! ```
//! use outbox_testkit::simulation::{self, Options};
//!
//! let summary = simulation::run(42, &Options::default()).expect("seed 42 keeps the promise");
//! assert!(summary.published > 0);
//! ```

mod broker;
#[cfg(test)]
mod conformance;
mod database;
mod defect;
pub(crate) mod dice;
mod ending;
mod faults;
mod ledger;
mod operator;
mod relays;
mod scenario;
mod storage;
mod violation;
mod world;
mod writers;

pub use defect::Defect;
pub use violation::{Violation, ViolationKind};

use std::sync::Arc;
use std::time::Duration;

use scenario::Scenario;
use world::World;

/// How long the backlog may take to drain, in virtual time, once the faults have ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// How to run a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A deliberate defect.
    pub defect: Option<Defect>,
    /// Whether a violation comes with the events that led to it. Costs time; runs are the same with and without.
    pub trace: bool,
}

/// What happened in a run that kept the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Messages that were committed.
    pub committed: u64,
    /// Of these, how many were published at least once.
    pub published: u64,
    /// Publications of a message that had been published.
    pub duplicates: u64,
    /// Dead letters at the end, and those that an operator discarded.
    pub dead: u64,
    /// Messages that wait for a parked key.
    pub parked: u64,
    /// Faults, each counted for every relay that it could touch.
    pub faults: u64,
    /// Relays that were started.
    pub relays: u64,
    /// How long the run took, in virtual milliseconds.
    pub virtual_ms: u64,
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
        let world = World::new(Scenario::of_seed(seed, options.defect), options.trace);
        let outcome = tokio::select! {
            biased;
            () = world.alarm.notified() => None,
            summary = whole_run(&world) => summary,
        };
        match (world.violation(), outcome) {
            (None, Some(summary)) => Ok(summary),
            (Some(violation), _) => Err(violation),
            (None, None) => unreachable!("the run ends early only for a violation"),
        }
    })
}

/// `None` when a promise was broken.
async fn whole_run(world: &Arc<World>) -> Option<Summary> {
    world.lock().note(|| format!("{:#?}", world.scenario));
    for _ in 0..world.scenario.relays {
        relays::start(world);
    }
    let writers = tokio::spawn(writers::write_everything(world.clone()));
    let rough = async {
        tokio::join!(faults::strike(world.clone()), faults::operate(world.clone()));
        tokio::time::sleep_until(world.rough_until()).await;
    };
    rough.await;
    faults::heal(world);
    drop(writers.await);
    faults::tidy(world).await;
    if !world.until(DRAIN_LIMIT, |state| state.slow_calls == 0 && state.waiting().is_none()).await {
        let what = world.lock().waiting().unwrap_or_default();
        world.violated(ViolationKind::Stuck, format!("{what} after {DRAIN_LIMIT:?} without faults"));
        return None;
    }
    relays::all_leave(world).await;
    world.step(|state| state.check_the_end());
    let summary = world.summary();
    world.lock().ledger.broken.is_none().then_some(summary)
}
