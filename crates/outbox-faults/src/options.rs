use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Fault runs of the transactional outbox on real services.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Start servers, writers and two relays, inject faults, and verify.
    Run(RunOptions),
    /// One relay process of such a run.
    #[command(hide = true)]
    Relay(RelayOptions),
}

/// What a run is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Events that the writers commit, at least
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) events: u64,
    /// Decides the order of the faults, their victims, and what the writers do; random when absent
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Lease of the relays, for example 3s or 1500ms
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) lease: Duration,
}

/// What a relay process needs to know.
#[derive(Debug, Clone, Args)]
pub(crate) struct RelayOptions {
    #[arg(long)]
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) database: String,
    #[arg(long)]
    pub(crate) kafka: String,
    #[arg(long, value_parser = duration)]
    pub(crate) lease: Duration,
    #[arg(long)]
    pub(crate) max_in_flight: usize,
}

fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "a whole number with a unit, such as 3s or 1500ms";
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').ok_or(ALLOWED)?, 1000),
    };
    let number: u64 = number.parse().map_err(|_| ALLOWED)?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(duration("3").is_err() && duration("s").is_err());
    }
}
