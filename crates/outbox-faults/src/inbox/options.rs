use clap::{Args, ValueEnum};

use crate::options::{BrokerKind, DatabaseKind};

/// What a run of the inbox is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct InboxOptions {
    /// What goes wrong
    #[arg(long, value_enum, default_value = "redeliveries")]
    pub(crate) scenario: Scenario,
    /// Messages, each of which arrives one to five times
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) messages: u64,
    /// Decides the order of the messages, the faults and their victims; random when absent
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Database of the run
    #[arg(long, value_enum, default_value = "postgres")]
    pub(crate) database: DatabaseKind,
    /// Broker of the run
    #[arg(long, value_enum, default_value = "kafka")]
    pub(crate) broker: BrokerKind,
    /// How long consumers join and leave in a storm
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    pub(crate) seconds: u64,
    /// Messages are stored and acknowledged first, and processed from the table
    #[arg(long)]
    pub(crate) durable: bool,
}

/// What goes wrong in a run of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Consumers are killed and paused, database and broker restarted.
    Redeliveries,
    /// Handlers update two shared rows in random order; consumers are killed and paused.
    Deadlocks,
    /// Consumers join and leave every second, and 2 % of the messages fail twice.
    Storm,
}

impl Scenario {
    /// In words, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redeliveries => "redeliveries",
            Self::Deadlocks => "deadlocks",
            Self::Storm => "storm",
        }
    }

    /// Share of the messages whose handler fails twice.
    pub(super) fn failing(self) -> f64 {
        if self == Self::Storm { 0.02 } else { 0.0 }
    }
}

/// What a consumer process needs to know.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConsumerOptions {
    #[arg(long)]
    pub(crate) database: String,
    /// Address of a Kafka broker, or an AMQP URL
    #[arg(long)]
    pub(crate) broker: String,
    /// Handlers update two shared rows in random order.
    #[arg(long)]
    pub(crate) deadlocks: bool,
    #[arg(long)]
    pub(crate) durable: bool,
}
