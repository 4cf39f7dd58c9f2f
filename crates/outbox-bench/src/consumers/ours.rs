use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use diesel_async::AsyncPgConnection;
use outbox::inbox::{InboxConfig, InboxStats};
use outbox::{Delivery, Failure, Inbox, KafkaSource};
use tokio::sync::oneshot;

use super::apply;
use crate::relays::{Drained, Stopwatch};
use crate::services::{InboxPlace, Topic, unique};
use crate::workload::EVENT_TYPE;

/// How often progress is looked at: what a measured time may be too long by.
const TICK: Duration = Duration::from_millis(1);
/// Without progress for this long an inbox is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Runs one inbox, with its defaults, until it has processed `events` of a topic.
///
/// # Errors
///
/// The inbox fails or is stuck, or it processed another number of messages.
pub async fn consume(place: &InboxPlace, topic: &Topic, events: u64) -> Result<(Drained, InboxStats)> {
    let mut watch = Stopwatch::start();
    let inbox = Inbox::builder(place.storage()?, &unique("consumer"))
        .config(InboxConfig::default())
        .on_raw(EVENT_TYPE, handle)
        .source(KafkaSource::new(topic.brokers(), [topic.name()])?)
        .build()?;
    let handle = inbox.handle();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(inbox.run(async {
        // a dropped sender stops the inbox too
        let _: Result<(), _> = stopped.await;
    }));
    let mut last = (0, Instant::now());
    let processed = loop {
        ensure!(!running.is_finished(), "the inbox ended before its time");
        let processed = handle.stats().processed;
        if processed > 0 {
            watch.confirmed(processed);
        }
        if processed >= events {
            break processed;
        }
        if processed > last.0 {
            last = (processed, Instant::now());
        }
        ensure!(last.1.elapsed() < STUCK, "nothing was processed for {STUCK:?}: {processed} of {events} are");
        tokio::time::sleep(TICK).await;
    };
    let drained = watch.stop(processed);
    // an inbox that has ended by itself reports below
    let _ = stop.send(());
    let report = running.await??;
    ensure!(report.drained, "the inbox ended with {} messages unacknowledged", report.stats.unacknowledged);
    let stats = report.stats;
    ensure!(stats.processed == events, "{} messages were processed, there are {events}", stats.processed);
    Ok((drained, stats))
}

async fn handle(conn: &mut AsyncPgConnection, delivery: &Delivery) -> Result<(), Failure> {
    apply(conn, delivery.identity.id(), delivery.subject.as_deref().unwrap_or_default()).await?;
    Ok(())
}
