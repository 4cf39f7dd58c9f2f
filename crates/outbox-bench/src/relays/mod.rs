//! What is compared: our relay, the row-claiming baseline, and the two halves of a relay alone.

mod baseline;
mod child;
mod keyset;
mod lapin_alone;
mod mysql_baseline;
mod ours;
mod producer;
mod sender;

pub use baseline::Baseline;
pub use child::{ChildRelay, RelayProcess};
pub use keyset::read_alone;
pub use lapin_alone::{Pipelining, lapin_alone};
pub use mysql_baseline::MysqlBaseline;
pub use ours::{OurRelay, drain, drain_between, wait_for};
pub use producer::produce_alone;

use std::time::{Duration, Instant};

use crate::services::{machine_cpu, process_cpu};

/// How a drain went.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    /// Events from the start of the clock on.
    pub events: u64,
    /// From the first confirmed event to the last removed one.
    pub took: Duration,
    /// From the start of the relay to the first confirmed event: connecting, leases, topic look-up.
    pub start_up: Duration,
    /// Processor time of this process over `took`; `None` when it is not known.
    pub cpu: Option<Duration>,
    /// Processor time of the whole machine over `took`: relay, PostgreSQL, Kafka and the kernel; `None` when it is not known.
    pub machine_cpu: Option<Duration>,
}

impl Drained {
    /// Events a second, start-up left out.
    pub fn rate(&self) -> f64 {
        as_f64(self.events) / self.took.as_secs_f64()
    }

    /// Start-up and drain.
    pub fn total(&self) -> Duration {
        self.start_up + self.took
    }
}

/// A count as a number to divide.
pub fn as_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Times a drain from its start over its first confirmation to its end.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    first: Option<Moment>,
}

/// What was known at a moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    removed: u64,
    cpu: Option<Duration>,
    machine_cpu: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), first: None }
    }

    /// Something was confirmed; `removed` events were gone by then. Only the first call counts.
    pub(crate) fn confirmed(&mut self, removed: u64) {
        self.first.get_or_insert_with(|| Moment::now(removed));
    }

    pub(crate) fn stop(&self, removed: u64) -> Drained {
        let end = Moment::now(removed);
        let first = self.first.unwrap_or(Moment { at: self.started, removed: 0, cpu: None, machine_cpu: None });
        let since = |now: Option<Duration>, then: Option<Duration>| now?.checked_sub(then?);
        Drained {
            events: removed.saturating_sub(first.removed),
            took: end.at - first.at,
            start_up: first.at - self.started,
            cpu: since(end.cpu, first.cpu),
            machine_cpu: since(end.machine_cpu, first.machine_cpu),
        }
    }
}

impl Moment {
    fn now(removed: u64) -> Self {
        Self { at: Instant::now(), removed, cpu: process_cpu(), machine_cpu: machine_cpu() }
    }
}
