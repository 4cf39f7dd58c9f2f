//! The `outbox` command: a standalone relay, the migrations, and a demo that verifies itself.

mod broker;
mod cli;
mod database;
mod demo;
mod interrupt;
mod logging;
mod migrate;
mod output;
mod relay;
mod secrets;
mod tables;
mod values;

use std::{
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    cli::{Cli, Subcommands},
    secrets::Secrets,
};

/// Exit code of a command line that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(rejected) if rejected.is_error => {
            let _ = write!(stderr(), "{}", rejected.text);
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            let _ = write!(stdout(), "{}", help.text);
            return ExitCode::SUCCESS;
        }
    };
    let mut secrets = Secrets::default();
    match run(cli, &mut secrets) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", secrets.redact(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; `false`: it ran, and what it checked is not as it should be.
fn run(cli: Cli, secrets: &mut Secrets) -> Result<bool> {
    // SQLite's connections run on blocking threads, which a current-thread runtime cannot wait for.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Subcommands::Demo(demo) => {
                // The progress is drawn where logs would go; who wants them says so.
                logging::start("off")?;
                demo.run(secrets).await
            }
            Subcommands::Relay(relay) => {
                logging::start("info,librdkafka=off")?;
                relay.run(secrets).await.map(|()| true)
            }
            Subcommands::Migrate(migrate) => {
                logging::start("warn")?;
                migrate.run(secrets).await.map(|()| true)
            }
        }
    })
}
