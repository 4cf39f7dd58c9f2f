//! `cargo xtask test`: every test of every crate, against real services.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::{
    faults::{self, FaultOptions, Profile},
    finish, start_services,
};
use crate::{
    run,
    stages::{Outcome, Stages},
};

/// The fault runs that are part of the tests, with one fault of each kind: database, broker, events. RabbitMQ has more faults, which
/// bring events of their own.
const FAULT_RUNS: [(&str, &str, u64); 2] = [("postgres", "kafka", 10_000), ("mysql", "rabbitmq", 5_000)];
/// The same of the inbox: scenario, database, broker, messages.
const INBOX_RUNS: [(&str, &str, &str, u64); 5] = [
    ("redeliveries", "postgres", "kafka", 5_000),
    ("redeliveries", "mysql", "rabbitmq", 3_000),
    ("deadlocks", "postgres", "kafka", 2_000),
    ("deadlocks", "mysql", "kafka", 2_000),
    ("storm", "postgres", "kafka", 3_000),
];
/// How long consumers join and leave there.
const STORM_SECONDS: u64 = 10;
/// The shortest lease that people would use in production, so that take-overs do not take long.
const FAULT_RUN_LEASE: &str = "3s";

/// Makes the services available, builds and runs the tests, and ends what it started. `arguments` go to `cargo test`.
/// With no choice of tests among them small fault runs follow.
///
/// # Errors
///
/// The services cannot be had, the tests do not compile, or one fails.
pub fn test(arguments: &[String]) -> Result<()> {
    let mut stages = Stages::default();
    // The stages' own errors are in the table; the first one ends the task.
    let result = stages_of(&mut stages, arguments);
    let finished = finish(&stages, "test");
    result.and(finished)
}

fn stages_of(stages: &mut Stages, arguments: &[String]) -> Result<()> {
    let services = start_services(stages)?;
    stages.run("build", || run::succeed(cargo_test(arguments, &["--no-run"]).envs(services.environment())))?;
    let servers_are_foreign = services.come_from_environment();
    let tested = stages.run("tests", || run::succeed(cargo_test(arguments, &[]).envs(services.environment())));
    stages.run("stop services", || {
        drop(services);
        Ok(())
    })?;
    if chooses_tests(arguments) {
        return tested;
    }
    if servers_are_foreign {
        println!(
            "the fault runs are left out: they restart their servers, and those of the environment are not to be restarted"
        );
        stages.record("fault runs", Duration::ZERO, Outcome::NotReachable);
        return tested;
    }
    tested?;
    let runs = FAULT_RUNS.into_iter().map(fault_run).chain(INBOX_RUNS.into_iter().map(inbox_run));
    runs.into_iter().try_for_each(|run| faults::stages_of(stages, &run, Profile::Dev))
}

fn inbox_run((scenario, database, broker, messages): (&str, &str, &str, u64)) -> FaultOptions {
    FaultOptions { inbox: Some(scenario.to_owned()), ..fault_run((database, broker, messages)) }
}

fn fault_run((database, broker, events): (&str, &str, u64)) -> FaultOptions {
    FaultOptions {
        inbox: None,
        seconds: STORM_SECONDS,
        durable: false,
        events,
        seed: None,
        lease: FAULT_RUN_LEASE.to_owned(),
        database: database.to_owned(),
        broker: broker.to_owned(),
        unroutable: "pause".to_owned(),
    }
}

fn cargo_test(arguments: &[String], own: &[&str]) -> Command {
    let mut command = run::cargo();
    command.args(["test", "--locked", "--all-features"]);
    if !names_packages(arguments) {
        command.arg("--workspace");
    }
    command.args(own).args(arguments);
    command
}

/// Whether the arguments name packages or tests, or do something else than run tests.
fn chooses_tests(arguments: &[String]) -> bool {
    const HARMLESS: [&str; 4] = ["--no-fail-fast", "--quiet", "-q", "--verbose"];
    arguments.iter().any(|argument| !HARMLESS.contains(&argument.as_str()))
}

/// `--workspace` would override a choice of packages.
fn names_packages(arguments: &[String]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| {
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--manifest-path"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_chosen_package_is_tested_alone() {
        assert!(names_packages(&words("-p outbox-core late")));
        assert!(names_packages(&words("--package=outbox-core")));
        assert!(!names_packages(&words("late_commit -- -p")));
    }

    #[test]
    fn a_fault_run_belongs_to_a_run_of_all_tests() {
        assert!(!chooses_tests(&[]) && !chooses_tests(&words("--no-fail-fast")));
        assert!(chooses_tests(&words("-p outbox-core")) && chooses_tests(&words("late_commit")));
    }
}
