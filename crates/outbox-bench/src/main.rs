//! `outbox-bench`: see `cargo xtask bench --help`.

use std::fs;
use std::io::Write as _;

use anyhow::{Context, Result};
use clap::{Args as _, Command, CommandFactory as _, FromArgMatches as _};
use outbox_bench::bench::Bench;
use outbox_bench::consumers::ConsumerProcess;
use outbox_bench::measurements;
use outbox_bench::options::Options;
use outbox_bench::relays::RelayProcess;
use outbox_bench::services::Services;

#[tokio::main]
async fn main() -> Result<()> {
    let relay = RelayProcess::augment_args(Command::new(RelayProcess::COMMAND).hide(true));
    let consumer = ConsumerProcess::augment_args(Command::new(ConsumerProcess::COMMAND).hide(true));
    let matches =
        Options::command().subcommand(relay).subcommand(consumer).args_conflicts_with_subcommands(true).get_matches();
    if let Some(arguments) = matches.subcommand_matches(RelayProcess::COMMAND) {
        let took = RelayProcess::from_arg_matches(arguments)?.run().await?;
        return Ok(serde_json::to_writer(std::io::stdout(), &took)?);
    }
    if let Some(arguments) = matches.subcommand_matches(ConsumerProcess::COMMAND) {
        let took = ConsumerProcess::from_arg_matches(arguments)?.run().await?;
        return Ok(serde_json::to_writer(std::io::stdout(), &took)?);
    }
    measure(Options::from_arg_matches(&matches)?).await
}

async fn measure(options: Options) -> Result<()> {
    let json = options.json.clone();
    let bench = Bench::new(Services::from_env(options.kafka.clone())?, options).await?;
    let measured = measurements::run(&bench).await;
    let removed = bench.remove().await;
    let report = measured?;
    removed?;
    if let Some(folder) = json.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    }
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("{}: cannot be written", json.display()))?;
    writeln!(std::io::stdout(), "{report}\nsamples: {}", json.display())?;
    Ok(())
}
