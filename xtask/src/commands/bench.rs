//! `cargo xtask bench`: the benchmarks, on real services and a release build.

use anyhow::Result;

use super::{finish, start_services};
use crate::{run, stages::Stages};

/// Builds the benchmarks, makes the services available and runs them. `arguments` go to the benchmark program.
///
/// # Errors
///
/// The services cannot be had, the program does not compile, or it fails.
pub fn bench(arguments: &[String]) -> Result<()> {
    let mut stages = Stages::default();
    let result = stages_of(&mut stages, arguments);
    let finished = finish(&stages, "bench");
    result.and(finished)
}

fn stages_of(stages: &mut Stages, arguments: &[String]) -> Result<()> {
    let package = ["--locked", "--release", "--package", "outbox-bench"];
    stages.run("build", || run::succeed(run::cargo().arg("build").args(package)))?;
    let services = start_services(stages)?;
    let measured = stages.run("benchmarks", || {
        let mut program = run::cargo();
        program.args(["run", "--quiet"]).args(package).arg("--").args(arguments);
        run::succeed(program.envs(services.environment()))
    });
    stages.run("stop services", || {
        drop(services);
        Ok(())
    })?;
    measured
}
