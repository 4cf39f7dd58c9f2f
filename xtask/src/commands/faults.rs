//! `cargo xtask faults`: relays and servers are killed, paused and restarted while writers commit, and every event is
//! accounted for. With `--inbox` consumers are, and what they applied is counted.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use super::finish;
use crate::{folders, run, stages::Stages};

/// What a fault run is made of. The program's own help says what each means.
#[derive(Debug, Clone, Args)]
pub struct FaultOptions {
    /// Run consumers of the inbox instead of relays: what goes wrong with them
    #[arg(
        long,
        value_name = "SCENARIO",
        num_args = 0..=1,
        default_missing_value = "redeliveries",
        value_parser = ["redeliveries", "deadlocks", "storm"],
        conflicts_with_all = ["lease", "unroutable"]
    )]
    pub inbox: Option<String>,
    /// How long consumers join and leave in a storm, in seconds
    #[arg(long, requires = "inbox", default_value_t = 60)]
    pub seconds: u64,
    /// Consumers store and acknowledge messages first, and process them from the table
    #[arg(long, requires = "inbox")]
    pub durable: bool,
    /// Events that the writers commit, at least; with `--inbox` messages
    #[arg(long, default_value_t = 100_000)]
    pub events: u64,
    /// Replays the faults of an earlier run
    #[arg(long)]
    pub seed: Option<u64>,
    /// Lease of the relays
    #[arg(long, default_value = "3s")]
    pub lease: String,
    /// Database of the run
    #[arg(long, default_value = "postgres", value_parser = ["postgres", "mysql"])]
    pub database: String,
    /// Broker of the run
    #[arg(long, default_value = "kafka", value_parser = ["kafka", "rabbitmq"])]
    pub broker: String,
    /// What an unroutable message does on RabbitMQ: it pauses its route or becomes a dead letter
    #[arg(long, default_value = "pause", value_parser = ["pause", "reject"])]
    pub unroutable: String,
}

/// Builds the relays in release and runs faults on servers of its own.
///
/// # Errors
///
/// The services cannot be had, the program does not compile, or a promise was broken.
pub fn faults(options: &FaultOptions) -> Result<()> {
    let mut stages = Stages::default();
    let result = stages_of(&mut stages, options, Profile::Release);
    let finished = finish(&stages, "faults");
    result.and(finished)
}

/// How the program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// As tests are.
    Dev,
    /// Optimized.
    Release,
}

/// Builds and runs as stages of a task.
pub(super) fn stages_of(stages: &mut Stages, options: &FaultOptions, profile: Profile) -> Result<()> {
    let (argument, folder) = match profile {
        Profile::Dev => ("--profile=dev", "debug"),
        Profile::Release => ("--profile=release", "release"),
    };
    stages.run("build fault runs", || {
        run::succeed(run::cargo().args(["build", "--locked", "--package", "outbox-faults", argument]))
    })?;
    let name = options.inbox.as_ref().map_or("faults".to_owned(), |scenario| format!("inbox, {scenario},"));
    stages.run(&format!("{name} on {} and {}", options.database, options.broker), || {
        let mut program = Command::new(folders::target().join(folder).join("outbox-faults"));
        match &options.inbox {
            None => {
                program.args(["run", "--events", &options.events.to_string(), "--lease", &options.lease]);
                program.args(["--unroutable", &options.unroutable]);
            }
            Some(scenario) => {
                program.args(["inbox", "--scenario", scenario, "--messages", &options.events.to_string()]);
                program.args(["--seconds", &options.seconds.to_string()]);
                program.args(options.durable.then_some("--durable"));
            }
        }
        program.args(["--database", &options.database, "--broker", &options.broker]);
        if let Some(seed) = options.seed {
            program.args(["--seed", &seed.to_string()]);
        }
        run::succeed(&mut program)
    })
}
