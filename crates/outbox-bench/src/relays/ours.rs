use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outbox::{PostgresStorage, Relay, RelayConfig, RelayHandle, RelayReport, Storage, Transport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Drained, Stopwatch};
use crate::services::{Outbox, Topic};

/// How often progress is looked at: what a measured time may be too long by.
const TICK: Duration = Duration::from_millis(1);
/// Without progress for this long a relay is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A running relay of this library.
#[derive(Debug)]
pub struct OurRelay {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<RelayReport, outbox::RelayError>>,
}

impl OurRelay {
    /// Starts one from an outbox to Kafka.
    ///
    /// # Errors
    ///
    /// Storage, transport or configuration cannot be used.
    pub fn start(outbox: &Outbox, topic: &Topic, config: RelayConfig) -> Result<Self> {
        let storage: PostgresStorage = outbox.storage(false)?;
        Self::between(storage, topic.transport()?, config)
    }

    /// Starts one between any storage and transport.
    ///
    /// # Errors
    ///
    /// The configuration cannot be used.
    pub fn between(storage: impl Storage, transport: impl Transport, config: RelayConfig) -> Result<Self> {
        let relay = Relay::builder(storage, transport).config(config).build()?;
        let handle = relay.handle();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(relay.run(async {
            // a dropped sender stops the relay too
            let _ = stopped.await;
        }));
        Ok(Self { handle, stop, running })
    }

    /// Its handle.
    pub fn handle(&self) -> &RelayHandle {
        &self.handle
    }

    /// Lets it drain what it holds, and ends it.
    ///
    /// # Errors
    ///
    /// It failed, or could not drain.
    pub async fn stop(self) -> Result<RelayReport> {
        // a relay that has ended by itself reports below
        let _ = self.stop.send(());
        let report = self.running.await??;
        ensure!(report.drained, "the relay ended with {} events in flight", report.stats.in_flight);
        Ok(report)
    }
}

/// Runs one relay until it has removed `events`, and checks on the broker that just what was removed is there.
///
/// # Errors
///
/// The relay fails or is stuck, or the topic holds another number of records.
pub async fn drain(outbox: &Outbox, topic: &Topic, config: RelayConfig, events: u64) -> Result<Drained> {
    let already = topic.records().await?;
    let (drained, removed) = drain_between(outbox.storage(false)?, topic.transport()?, config, events).await?;
    let records = topic.records().await? - already;
    ensure!(records == removed, "{removed} events were removed and the topic has {records} records");
    Ok(drained)
}

/// Runs one relay between any storage and transport until it has removed `events`. Returns also how many it had removed when it ended.
///
/// # Errors
///
/// The relay fails or is stuck.
pub async fn drain_between(
    storage: impl Storage,
    transport: impl Transport,
    config: RelayConfig,
    events: u64,
) -> Result<(Drained, u64)> {
    let mut watch = Stopwatch::start();
    let relay = OurRelay::between(storage, transport, config)?;
    wait_for(&[&relay], events, |published, settled| {
        if published > 0 {
            watch.confirmed(settled);
        }
    })
    .await?;
    let drained = watch.stop(relay.handle().stats().settled);
    Ok((drained, relay.stop().await?.stats.settled))
}

/// Waits until relays have removed `events` together, calling `look` with what they published and removed so far.
///
/// # Errors
///
/// One ended, or all are stuck.
pub async fn wait_for(relays: &[&OurRelay], events: u64, mut look: impl FnMut(u64, u64)) -> Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let (mut published, mut settled) = (0, 0);
        for relay in relays {
            ensure!(!relay.running.is_finished(), "a relay ended before its time");
            let stats = relay.handle.stats();
            published += stats.published;
            settled += stats.settled;
        }
        look(published, settled);
        if settled >= events {
            return Ok(());
        }
        if settled > last.0 {
            last = (settled, Instant::now());
        }
        ensure!(last.1.elapsed() < STUCK, "no event was removed for {STUCK:?}: {settled} of {events} are");
        tokio::time::sleep(TICK).await;
    }
}
