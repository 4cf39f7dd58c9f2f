//! The promise of the outbox, over many seeds.
//!
//! `OUTBOX_SIM_SEEDS` says how many seeds (10,000 unless set), `OUTBOX_SIM_FIRST` which is the first (1), and
//! `OUTBOX_SIM_TRACE=1` prints the events that led to a violation:
//! `OUTBOX_SIM_FIRST=4711 OUTBOX_SIM_SEEDS=1 OUTBOX_SIM_TRACE=1 cargo test -p outbox-testkit --all-features --test simulation`.
#![allow(clippy::print_stdout, reason = "progress and the failing seed are the output of this test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use outbox_testkit::simulation::{self, Options, Summary, Violation};

#[test]
fn ten_thousand_seeds_pass() {
    let first = number("OUTBOX_SIM_FIRST", 1);
    let count = number("OUTBOX_SIM_SEEDS", 10_000);
    let trace = std::env::var("OUTBOX_SIM_TRACE").is_ok_and(|value| value == "1");
    let started = Instant::now();
    let totals = Totals::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| totals.work(first, count, started));
        }
    });
    let summary = totals.summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds from {first} in {:.1} s: {summary:?}", started.elapsed().as_secs_f64());
    let violations = totals.violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    for violation in &violations {
        println!("{violation}");
    }
    if let Some(violation) = violations.iter().min_by_key(|violation| violation.seed) {
        if trace {
            print_trace(violation.seed);
        }
        panic!("{} seeds fail, the first with {violation}", violations.len());
    }
    assert!(summary.published > 0 && summary.duplicates > 0 && summary.dead > 0, "the seeds exercise too little");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=40 {
        let once = simulation::run(seed, &Options::default());
        let traced = simulation::run(seed, &Options { trace: true, ..Options::default() });
        let strip = |result: Result<Summary, Violation>| result.map_err(|violation| (violation.at_ms, violation.what));
        assert_eq!(strip(once), strip(traced), "seed {seed} ran differently");
    }
}

fn print_trace(seed: u64) {
    if let Err(violation) = simulation::run(seed, &Options { trace: true, ..Options::default() }) {
        for line in &violation.trace {
            println!("{line}");
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, it is {text:?}")),
        Err(_) => otherwise,
    }
}

#[derive(Default)]
struct Totals {
    next: AtomicU64,
    enough: AtomicBool,
    summary: Mutex<Summary>,
    violations: Mutex<Vec<Violation>>,
}

impl Totals {
    /// Takes one seed after the other until all are done or enough have failed.
    fn work(&self, first: u64, count: u64, started: Instant) {
        const ENOUGH: usize = 20;
        while !self.enough.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            match simulation::run(first + number, &Options::default()) {
                Ok(summary) => add(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner), &summary),
                Err(violation) => {
                    let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
                    violations.push(violation);
                    self.enough.store(violations.len() >= ENOUGH, Ordering::Relaxed);
                }
            }
            if number % 1_000 == 999 {
                println!("{} seeds in {:.1} s", number + 1, started.elapsed().as_secs_f64());
            }
        }
    }
}

fn add(total: &mut Summary, one: &Summary) {
    total.committed += one.committed;
    total.published += one.published;
    total.duplicates += one.duplicates;
    total.dead += one.dead;
    total.parked += one.parked;
    total.faults += one.faults;
    total.relays += one.relays;
    total.virtual_ms += one.virtual_ms;
}
