//! Tasks of the workspace: `cargo xtask --help` lists them.
#![allow(clippy::print_stderr)] // the program's only way to report an error

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{commands, interrupt};

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Project tasks: services, tests, checks and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test of every crate against real services.
    Test {
        /// Arguments of `cargo test`, for instance `-p outbox-core late_commit -- --nocapture`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, feature sets, documentation and dependencies.
    Lint,
    /// Run the benchmarks against real services.
    Bench {
        /// Arguments of the benchmark program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kill and pause relays or consumers, restart servers, and account for every event.
    Faults(commands::faults::FaultOptions),
    /// Keep PostgreSQL, MariaDB, Apache Kafka and RabbitMQ running in the background.
    Services {
        #[command(subcommand)]
        action: ServicesAction,
    },
}

#[derive(Debug, Subcommand)]
enum ServicesAction {
    /// Start them and print the environment for tests.
    Up,
    /// Stop them and remove their data.
    Down,
    /// Say whether they run.
    Status,
}

fn main() -> ExitCode {
    let result = interrupt::listen().and_then(|()| match Arguments::parse().task {
        Task::Test { arguments } => commands::test::test(&arguments),
        Task::Lint => commands::lint::lint(),
        Task::Bench { arguments } => commands::bench::bench(&arguments),
        Task::Faults(options) => commands::faults::faults(&options),
        Task::Services { action } => match action {
            ServicesAction::Up => commands::services::up(),
            ServicesAction::Down => commands::services::down(),
            ServicesAction::Status => commands::services::status(),
        },
    });
    match result {
        _ if interrupt::requests() > 0 => ExitCode::from(INTERRUPTED),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
