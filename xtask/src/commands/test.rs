//! `cargo xtask test`: every test of every crate, against real services.

use std::process::Command;

use anyhow::Result;

use super::{finish, start_services};
use crate::{run, stages::Stages};

/// Makes the services available, builds and runs the tests, and ends what it started. `arguments` go to `cargo test`.
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
    let tested = stages.run("tests", || run::succeed(cargo_test(arguments, &[]).envs(services.environment())));
    stages.run("stop services", || {
        drop(services);
        Ok(())
    })?;
    tested
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
}
