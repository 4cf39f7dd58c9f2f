use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::inbox::{ConsumerOptions, InboxOptions};

/// Fault runs of the transactional outbox and inbox on real services.
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
    /// Start servers, a producer and three consumers, inject faults, and verify what was applied.
    Inbox(InboxOptions),
    /// One consumer process of such a run.
    #[command(hide = true)]
    Consumer(ConsumerOptions),
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
    /// Database of the run
    #[arg(long, value_enum, default_value = "postgres")]
    pub(crate) database: DatabaseKind,
    /// Broker of the run
    #[arg(long, value_enum, default_value = "kafka")]
    pub(crate) broker: BrokerKind,
    /// What an unroutable message does on RabbitMQ: its route pauses, or it becomes a dead letter
    #[arg(long, value_enum, default_value = "pause")]
    pub(crate) unroutable: Unroutable,
}

/// A database that runs can be made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatabaseKind {
    Postgres,
    Mysql,
}

/// A broker that runs can be made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerKind {
    Kafka,
    Rabbitmq,
}

/// What becomes of a message that no queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unroutable {
    /// Its route pauses until the message finds a queue.
    Pause,
    /// It becomes a dead letter.
    Reject,
}

impl DatabaseKind {
    /// The product, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MariaDB",
        }
    }
}

impl BrokerKind {
    /// The product, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Rabbitmq => "RabbitMQ",
        }
    }
}

/// What a relay process needs to know.
#[derive(Debug, Clone, Args)]
pub(crate) struct RelayOptions {
    #[arg(long)]
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) database: String,
    /// Address of a Kafka broker, or an AMQP URL
    #[arg(long)]
    pub(crate) broker: String,
    #[arg(long, value_enum, default_value = "pause")]
    pub(crate) unroutable: Unroutable,
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
