//! Each feature of each crate compiles without warnings, alone, and so does none.
//!
//! All together is the workspace's clippy run.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    interrupt,
    metadata::{self, Package},
    run,
    stages::Outcome,
};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn check() -> Result<Outcome> {
    let skip_librdkafka = format!("target.{}.rdkafka.rustc-link-lib=[]", host()?);
    let mut failed = Vec::new();
    for package in metadata::packages()?.iter().filter(|package| !package.features.is_empty()) {
        for features in sets(package) {
            interrupt::check()?;
            let set = if features.is_empty() { "no feature" } else { features };
            println!("{} with {set}", package.name);
            let mut clippy = run::cargo();
            clippy
                .args(["clippy", "--quiet", "--locked", "--package", &package.name, "--lib"])
                .args(["--no-default-features", "--features", features])
                // A check links nothing: without this, librdkafka is compiled once more for each set of its features.
                .args(["--config", &skip_librdkafka])
                .args(["--", "-D", "warnings"]);
            if run::succeed(&mut clippy).is_err() {
                failed.push(format!("{} with {set}", package.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join(", "));
    }
    Ok(Outcome::Passed)
}

fn sets(package: &Package) -> impl Iterator<Item = &str> {
    let alone = package.features.keys().map(String::as_str).filter(|feature| *feature != "default");
    std::iter::once("").chain(alone)
}

fn host() -> Result<String> {
    let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = run::quiet(rustc.arg("-vV"), LIMIT)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
