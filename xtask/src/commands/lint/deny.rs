//! Dependencies: licences, sources, duplicates, and known vulnerabilities where the database can be reached.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{folders, interrupt, run, stages::Outcome};

const VERSION: &str = "0.20";
const PROBE_LIMIT: Duration = Duration::from_secs(10);
const FETCH_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn install() -> Result<Outcome> {
    if program().is_none() {
        let mut install = run::cargo();
        install.args(["install", "cargo-deny", "--locked", "--quiet", "--version", &format!("^{VERSION}"), "--root"]);
        // Unoptimised: it works for a second, and compiles in less than half the time.
        install.arg(own_folder()).arg("--debug");
        run::succeed(&mut install)?;
    }
    Ok(Outcome::Passed)
}

pub(super) fn check() -> Result<Outcome> {
    run::succeed(deny()?.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Passed)
}

/// The database is fetched first and on its own, so that a network that is not there and a vulnerability that is there
/// are never taken for one another.
pub(super) fn advisories() -> Result<Outcome> {
    if let Err(error) = run::quiet(deny()?.args(["fetch", "db"]), FETCH_LIMIT) {
        interrupt::check()?;
        let reason = format!("{error:#}");
        println!("advisory database not reachable: {}", reason.lines().last().unwrap_or_default().trim());
        return Ok(Outcome::NotReachable);
    }
    run::succeed(deny()?.args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Outcome::Passed)
}

fn deny() -> Result<Command> {
    let Some(program) = program() else {
        bail!("cargo-deny is not installed");
    };
    let mut command = Command::new(program);
    command.current_dir(folders::workspace()).args(["--locked", "--all-features"]);
    Ok(command)
}

/// The developer's own cargo-deny of this version, or the one that [`install`] put below `target/`.
fn program() -> Option<PathBuf> {
    let own = own_folder().join("bin/cargo-deny");
    [PathBuf::from("cargo-deny"), own].into_iter().find(|program| {
        run::captured(Command::new(program).arg("--version"), PROBE_LIMIT)
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(&format!("cargo-deny {VERSION}.")))
    })
}

fn own_folder() -> PathBuf {
    folders::target().join("tools")
}
