//! `cargo xtask lint`: everything about the code that can be checked without running it.

use anyhow::Result;

use super::finish;
use crate::{
    interrupt, run,
    stages::{Outcome, Stages},
};

mod deny;
mod features;
mod traces;

/// Runs every check, also after one failed.
///
/// # Errors
///
/// A check failed, or could not run although it needs nothing from the network.
pub fn lint() -> Result<()> {
    let mut stages = Stages::default();
    let mut check = |name: &str, stage: &dyn Fn() -> Result<Outcome>| -> Result<()> {
        interrupt::check()?;
        let begun = Stages::begin(name);
        let outcome = stage().unwrap_or_else(|error| {
            eprintln!("{name}: {error:#}");
            Outcome::Failed
        });
        stages.record(name, begun.elapsed(), outcome);
        Ok(())
    };
    check("traces of machines", &traces::check)?;
    check("format", &format)?;
    check("clippy", &clippy)?;
    check("each feature alone", &features::check)?;
    check("documentation", &documentation)?;
    check("cargo-deny: install", &deny::install)?;
    check("cargo-deny: bans, licences, sources", &deny::check)?;
    check("cargo-deny: advisories", &deny::advisories)?;
    finish(&stages, "lint")
}

fn format() -> Result<Outcome> {
    run::succeed(run::cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome> {
    let mut clippy = run::cargo();
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets", "--all-features"]);
    run::succeed(clippy.args(["--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

fn documentation() -> Result<Outcome> {
    let mut rustdoc = run::cargo();
    // Libraries only: the program `outbox` and the library `outbox` would write to the same folder.
    rustdoc.args(["doc", "--locked", "--workspace", "--lib", "--no-deps", "--all-features"]);
    run::succeed(rustdoc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}
