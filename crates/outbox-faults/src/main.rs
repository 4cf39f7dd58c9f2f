//! Fault runs on real services (`cargo xtask faults`).
//!
//! Writers commit events while two relay processes are killed and paused and both servers are restarted. A verifier that
//! shares nothing with the product reads everything from the broker and compares it with what the database says was
//! committed. RabbitMQ has more to go wrong: alarms, unroutable messages, a queue that refuses.
//!
//! The inbox has runs of its own: three consumer processes, messages that arrive up to five times, and a count of what was applied.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the program reports to the terminal

mod broker;
mod database;
mod events;
mod faults;
mod inbox;
mod leases;
mod logs;
mod options;
mod pace;
mod plan;
mod process;
mod relay;
mod report;
mod role;
mod run;
mod servers;
mod surroundings;
mod verify;
mod writers;

use std::process::ExitCode;

use clap::Parser;

use options::{Cli, Task};

fn main() -> ExitCode {
    let passed = match Cli::parse().task {
        Task::Run(options) => run::run(&options),
        Task::Relay(options) => relay::run(options).map(|()| true),
        Task::Inbox(options) => inbox::run(&options),
        Task::Consumer(options) => inbox::consume(&options).map(|()| true),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
