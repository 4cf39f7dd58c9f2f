//! The promise of the inbox, over many seeds, and that each deliberate defect is caught.
//!
//! `OUTBOX_SIM_SEEDS` says how many seeds (10,000 unless set), `OUTBOX_SIM_FIRST` which is the first (1).
#![allow(clippy::print_stdout, reason = "progress and the failing seed are the output of this test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use outbox_testkit::inbox_simulation::{self, Defect, Options, Summary, Violation};

/// Seeds within which a defect must be caught.
const DEFECT_SEEDS: u64 = 2_000;
/// So many seeds see everything that the simulation can do.
const ENOUGH_FOR_ALL: u64 = 1_000;

#[test]
fn ten_thousand_seeds_pass() {
    let (first, count) = (number("OUTBOX_SIM_FIRST", 1), number("OUTBOX_SIM_SEEDS", 10_000));
    let next = AtomicU64::new(0);
    let total = Mutex::new(Summary::default());
    let violations: Mutex<Vec<Violation>> = Mutex::default();
    let work = || {
        const ENOUGH: usize = 20;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count || violations.lock().unwrap_or_else(PoisonError::into_inner).len() >= ENOUGH {
                return;
            }
            match inbox_simulation::run(first + seed, &Options::default()) {
                Ok(summary) => add(&mut total.lock().unwrap_or_else(PoisonError::into_inner), &summary),
                Err(violation) => violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds from {first}: {total:?}");
    let violations = violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.iter().for_each(|violation| println!("{violation}"));
    assert!(violations.is_empty(), "{} seeds fail, the first with {}", violations.len(), violations[0]);
    // a seed that is replayed need not do everything
    assert!(
        count < ENOUGH_FOR_ALL || (total.applied > 0 && total.dead > 0 && total.replayed > 0 && total.faults > 0),
        "the seeds exercise too little"
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=30 {
        let run = || inbox_simulation::run(seed, &Options::default());
        assert_eq!(run(), run(), "seed {seed} ran differently");
    }
}

#[test]
fn each_defect_is_caught() {
    let missed: Vec<_> = Defect::ALL.into_iter().filter(|defect| !is_caught(*defect)).collect();
    assert!(missed.is_empty(), "not caught within {DEFECT_SEEDS} seeds: {missed:?}");
}

fn is_caught(defect: Defect) -> bool {
    let options = Options { defect: Some(defect) };
    for seed in 1..=DEFECT_SEEDS {
        match inbox_simulation::run(seed, &options) {
            Err(violation) if defect.breaks().contains(&violation.kind) => {
                println!("{defect:?} caught after {seed} seeds: {violation}");
                return true;
            }
            Err(violation) => println!("{defect:?}: {violation}"),
            Ok(_) => {}
        }
    }
    false
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, it is {text:?}")),
        Err(_) => otherwise,
    }
}

fn add(total: &mut Summary, one: &Summary) {
    total.messages += one.messages;
    total.repeated += one.repeated;
    total.applied += one.applied;
    total.dead += one.dead;
    total.replayed += one.replayed;
    total.processes += one.processes;
    total.faults += one.faults;
    total.calls += one.calls;
}
