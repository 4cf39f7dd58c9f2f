use std::sync::Arc;

use anyhow::{Context, Result, bail};
use outbox::{
    AmqpTransport, KafkaTransport, MysqlStorage, PostgresStorage, Relay, RelayConfig, RelayHandle, Storage, Transport,
    amqp,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    broker::EXCHANGE,
    options::{RelayOptions, Unroutable},
    role,
    surroundings::RelayTally,
};

/// One relay process, until SIGTERM or the end of its parent.
pub(crate) fn run(options: RelayOptions) -> Result<()> {
    role::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(relay(options))
}

async fn relay(options: RelayOptions) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let storage = storage(&options.database).await?;
    let transport = transport(&options)?;
    let config = RelayConfig {
        name: options.name,
        lease_duration: options.lease,
        max_in_flight: options.max_in_flight,
        ..RelayConfig::default()
    };
    let relay = Relay::builder_from(storage, transport).config(config).build()?;
    let handle = relay.handle();
    let shutdown = async {
        terminate.recv().await;
    };
    let report = tokio::select! {
        report = relay.run(shutdown) => report?,
        error = report(&handle) => return Err(error),
    };
    write_tally(&handle)?;
    if !report.drained {
        bail!("the drain was cut by its deadline");
    }
    Ok(())
}

async fn storage(url: &str) -> Result<Arc<dyn Storage>> {
    if url.starts_with("mysql:") {
        return Ok(Arc::new(MysqlStorage::connect(url).await?));
    }
    Ok(Arc::new(PostgresStorage::connect(url).await?))
}

fn transport(options: &RelayOptions) -> Result<Arc<dyn Transport>> {
    // The source names the run that published a record, so that the verifier can tell them apart.
    let source = format!("/{}", options.name);
    if options.broker.starts_with("amqp:") {
        let unroutable = match options.unroutable {
            Unroutable::Pause => amqp::Unroutable::Pause,
            Unroutable::Reject => amqp::Unroutable::Reject,
        };
        let transport = AmqpTransport::builder(&options.broker).exchange(EXCHANGE).unroutable(unroutable);
        return Ok(Arc::new(transport.source(source).build()?));
    }
    Ok(Arc::new(KafkaTransport::builder(&options.broker).source(source).build()?))
}

async fn report(handle: &RelayHandle) -> anyhow::Error {
    loop {
        tokio::time::sleep(role::TALLY_INTERVAL).await;
        if let Err(error) = write_tally(handle) {
            return error;
        }
    }
}

fn write_tally(handle: &RelayHandle) -> Result<()> {
    let stats = handle.stats();
    let tally = RelayTally {
        published: stats.published,
        settled: stats.settled,
        swept: stats.swept,
        lost_leases: stats.lost_leases,
        sessions: stats.sessions,
        dead: stats.dead,
        retried: stats.retried,
        health: handle.health().reasons.iter().map(ToString::to_string).collect(),
    };
    role::say(&tally)
}
