//! `cargo xtask services`: servers in the background, for a developer's own test runs.

use anyhow::Result;

use crate::services::{Background, Services};

/// Starts the servers and prints the environment for tests.
///
/// # Errors
///
/// They run already, or do not start.
pub fn up() -> Result<()> {
    let background = Services::start_background()?;
    print_environment(&background);
    Ok(())
}

/// Ends the servers and removes their data.
///
/// # Errors
///
/// Something of them cannot be removed.
pub fn down() -> Result<()> {
    match Background::find()? {
        Some(background) => {
            background.stop()?;
            println!("services stopped");
        }
        None => println!("no services run"),
    }
    Ok(())
}

/// Says whether the servers run, and prints the environment for tests.
///
/// # Errors
///
/// The state file cannot be read.
pub fn status() -> Result<()> {
    let Some(background) = Background::find()? else {
        println!("no services run");
        return Ok(());
    };
    if !background.answers() {
        println!("services were started but do not answer; `cargo xtask services down` removes what is left");
        return Ok(());
    }
    for (name, process) in background.processes() {
        println!("# {name} is process {process}");
    }
    print_environment(&background);
    Ok(())
}

fn print_environment(background: &Background) {
    for (name, value) in background.environment() {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
}
