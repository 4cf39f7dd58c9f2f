//! Stages of a task: one line when each begins, one table of their times at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Times of the stages of one task.
#[derive(Debug, Default)]
pub struct Stages {
    done: Vec<(String, Duration, Outcome)>,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and found nothing wrong.
    Passed,
    /// It ran and failed.
    Failed,
    /// It could not run here, which the task allows.
    NotReachable,
}

impl Stages {
    /// Runs one stage and records its time.
    ///
    /// # Errors
    ///
    /// The stage's own.
    pub fn run<T>(&mut self, name: &str, stage: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Self::begin(name);
        let result = stage();
        let outcome = if result.is_ok() { Outcome::Passed } else { Outcome::Failed };
        self.record(name, begun.elapsed(), outcome);
        result
    }

    /// Announces a stage whose end is recorded by [`Stages::record`].
    pub fn begin(name: &str) -> Instant {
        println!("--- {name}");
        Instant::now()
    }

    /// Records a stage that has ended.
    pub fn record(&mut self, name: &str, took: Duration, outcome: Outcome) {
        self.done.push((name.to_owned(), took, outcome));
    }

    /// Whether any recorded stage failed.
    pub fn failed(&self) -> bool {
        self.done.iter().any(|(_, _, outcome)| *outcome == Outcome::Failed)
    }

    /// Prints the table of times.
    pub fn print(&self) {
        let width = self.done.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        println!("--- times");
        for (name, took, outcome) in &self.done {
            let outcome = match outcome {
                Outcome::Passed => "ok",
                Outcome::Failed => "FAILED",
                Outcome::NotReachable => "not reachable",
            };
            println!("{name:<width$}  {:>7.1} s  {outcome}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        println!("{:<width$}  {:>7.1} s", "total", total.as_secs_f64());
    }
}
