use anyhow::{Result, ensure};

use super::sender::Sender;
use super::{Drained, Stopwatch};
use crate::services::Topic;
use crate::workload::Workload;

/// Messages handed over in one call: the relay's own number.
const BATCH: usize = 2_000;
/// Messages unconfirmed at most: more is not faster.
const WINDOW: u64 = 20_000;

/// How fast the transport takes and confirms messages that are in memory already: a ceiling of every relay.
///
/// # Errors
///
/// Kafka fails.
pub async fn produce_alone(workload: &Workload, topic: &Topic) -> Result<Drained> {
    let messages = workload.messages(topic.name());
    let mut watch = Stopwatch::start();
    let mut sender = Sender::connect(&topic.transport()?, topic).await?;
    sender.send([messages[0].clone()]).await;
    sender.in_flight_at_most(0).await?;
    watch.confirmed(sender.confirmed());
    for batch in messages[1..].chunks(BATCH) {
        sender.in_flight_at_most(WINDOW).await?;
        sender.send(batch.iter().cloned()).await;
    }
    sender.in_flight_at_most(0).await?;
    let drained = watch.stop(sender.confirmed());
    sender.close().await;
    let records = topic.records().await?;
    ensure!(records == messages.len() as u64, "{} messages were sent and the topic has {records}", messages.len());
    Ok(drained)
}
