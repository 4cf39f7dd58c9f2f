use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::consume;
use crate::relays::as_f64;
use crate::services::{InboxPlace, Kafka, Topic, resident_peak_bytes};

/// What that process is told.
#[derive(Debug, Clone, Args)]
pub struct ConsumerProcess {
    /// URL of the database.
    #[arg(long)]
    url: String,
    /// Schema of the inbox.
    #[arg(long)]
    schema: String,
    /// Bootstrap servers.
    #[arg(long)]
    kafka: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Messages to process before it ends.
    #[arg(long)]
    events: u64,
}

/// What it says at its end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ChildConsumer {
    /// The most memory that it held, in bytes.
    pub peak_bytes: u64,
    /// Events a second, start-up left out.
    pub rate: f64,
}

impl ConsumerProcess {
    /// The hidden command of the benchmark program that is a consumer and nothing else, so that its memory is a consumer's.
    pub const COMMAND: &str = "consumer-process";

    /// Processes, and tells what it took: runs in the process that was started for it.
    ///
    /// # Errors
    ///
    /// As [`consume`].
    pub async fn run(&self) -> Result<ChildConsumer> {
        let place = InboxPlace::existing(&self.url, &self.schema)?;
        let topic = Topic::existing(Kafka { brokers: self.kafka.clone(), properties: Vec::new() }, &self.topic);
        let (drained, _) = consume(&place, &topic, self.events).await?;
        let peak_bytes = resident_peak_bytes("self").context("VmHWM of this process is not known: /proc is needed")?;
        Ok(ChildConsumer { peak_bytes, rate: drained.rate() })
    }
}

impl ChildConsumer {
    /// The most memory that it held, in MiB.
    pub fn peak_mib(&self) -> f64 {
        as_f64(self.peak_bytes / 1024) / 1024.0
    }

    /// Starts this program again as a consumer, and waits for its end.
    ///
    /// # Errors
    ///
    /// It fails.
    pub async fn measure(place: &InboxPlace, topic: &Topic, events: u64) -> Result<Self> {
        let output = Command::new(std::env::current_exe()?)
            .arg(ConsumerProcess::COMMAND)
            .args(["--url", place.url(), "--schema", place.schema()])
            .args(["--kafka", topic.brokers(), "--topic", topic.name(), "--events", &events.to_string()])
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "the consumer's process ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("what the consumer's process said")
    }
}
