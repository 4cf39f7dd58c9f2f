use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use outbox::RelayConfig;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{as_f64, drain};
use crate::services::{Kafka, Outbox, Topic, resident_peak_bytes};

/// What that process is told.
#[derive(Debug, Clone, Args)]
pub struct RelayProcess {
    /// URL of the database.
    #[arg(long)]
    url: String,
    /// Schema of the outbox.
    #[arg(long)]
    schema: String,
    /// Bootstrap servers.
    #[arg(long)]
    kafka: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Events to deliver before it ends.
    #[arg(long)]
    events: u64,
}

/// What it says at its end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ChildRelay {
    /// The most memory that it held, in bytes.
    pub peak_bytes: u64,
    /// Events a second, start-up left out.
    pub rate: f64,
}

impl RelayProcess {
    /// The hidden command of the benchmark program that is a relay and nothing else, so that its memory is a relay's.
    pub const COMMAND: &str = "relay-process";

    /// Delivers, and tells what it took: runs in the process that was started for it.
    ///
    /// # Errors
    ///
    /// As [`drain`].
    pub async fn run(&self) -> Result<ChildRelay> {
        let outbox = Outbox::existing(&self.url, &self.schema)?;
        let topic = Topic::existing(Kafka { brokers: self.kafka.clone(), properties: Vec::new() }, &self.topic);
        let drained = drain(&outbox, &topic, RelayConfig::default(), self.events).await?;
        let peak_bytes = resident_peak_bytes("self").context("VmHWM of this process is not known: /proc is needed")?;
        Ok(ChildRelay { peak_bytes, rate: drained.rate() })
    }
}

impl ChildRelay {
    /// The most memory that it held, in MiB.
    pub fn peak_mib(&self) -> f64 {
        as_f64(self.peak_bytes / 1024) / 1024.0
    }

    /// Starts this program again as a relay, and waits for its end.
    ///
    /// # Errors
    ///
    /// It fails.
    pub async fn measure(outbox: &Outbox, topic: &Topic, events: u64) -> Result<Self> {
        let output = Command::new(std::env::current_exe()?)
            .arg(RelayProcess::COMMAND)
            .args(["--url", outbox.url(), "--schema", outbox.schema()])
            .args(["--kafka", topic.brokers(), "--topic", topic.name(), "--events", &events.to_string()])
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "the relay's process ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("what the relay's process said")
    }
}
