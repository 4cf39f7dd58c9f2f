//! One consumer process: the product, with a handler that counts.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use outbox::{
    AmqpSource, Inbox, KafkaSource, MysqlInbox, PostgresInbox,
    inbox::{
        InboxBuilder, InboxConfig, InboxHandle, Mode,
        ports::{InboxStorage, Source},
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CONSUMER, ConsumerOptions,
    handlers::{self, Whims},
    producer,
    tally::ConsumerTally,
};
use crate::role;

/// Transactions that a process may have open at once.
const WORKERS: usize = 3;
/// The shortest that a broker allows by default: how long a consumer that was killed or paused keeps its partitions.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Between two heartbeats: how soon a consumer hears of a rebalance.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// After twice as long RabbitMQ gives the queues of a consumer that is paused to another: long before it goes on.
const AMQP_HEARTBEAT: Duration = Duration::from_secs(2);
/// How long the server lets a transaction wait for a consumer that is paused: longer than handlers do nothing, shorter than a pause.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// One consumer process, until SIGTERM or the end of its parent.
pub(crate) fn run(options: &ConsumerOptions) -> Result<()> {
    role::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(consume(options))
}

async fn consume(options: &ConsumerOptions) -> Result<()> {
    let source = source(&options.broker)?;
    let whims = Whims { deadlocks: options.deadlocks };
    if options.database.starts_with("mysql:") {
        let storage =
            MysqlInbox::builder(&options.database).pool_size(2 * WORKERS).idle_timeout(IDLE_TIMEOUT).build()?;
        return serve(Inbox::builder(storage, CONSUMER).on_with(whims, handlers::mysql::apply), source, options).await;
    }
    let storage =
        PostgresInbox::builder(&options.database).pool_size(2 * WORKERS).idle_timeout(IDLE_TIMEOUT).build()?;
    let inbox = Inbox::builder(storage, CONSUMER).on_with(whims, handlers::postgres::apply);
    serve(inbox, source, options).await
}

fn source(broker: &str) -> Result<Arc<dyn Source>> {
    if broker.starts_with("amqp:") {
        return Ok(Arc::new(AmqpSource::builder(broker, producer::queues()).heartbeat(AMQP_HEARTBEAT).build()?));
    }
    let ms = |time: Duration| time.as_millis().to_string();
    let source = KafkaSource::builder(broker, [producer::TOPIC])
        .property("session.timeout.ms", ms(SESSION_TIMEOUT))
        .property("max.poll.interval.ms", ms(SESSION_TIMEOUT * 2))
        .property("heartbeat.interval.ms", ms(HEARTBEAT_INTERVAL));
    Ok(Arc::new(source.build()?))
}

async fn serve<S: InboxStorage>(
    inbox: InboxBuilder<S>,
    source: Arc<dyn Source>,
    options: &ConsumerOptions,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let inbox = inbox.config(config(options)).source_from(source).build()?;
    let handle = inbox.handle();
    let shutdown = async {
        terminate.recv().await;
    };
    let report = tokio::select! {
        report = inbox.run(shutdown) => report?,
        error = report(&handle) => return Err(error),
    };
    say(&handle)?;
    if !report.drained {
        bail!("the drain was cut by its deadline");
    }
    Ok(())
}

/// What a fault stops goes on within a second; the rest is as it comes.
fn config(options: &ConsumerOptions) -> InboxConfig {
    let (ms, secs) = (Duration::from_millis, Duration::from_secs);
    let mut config = InboxConfig {
        mode: if options.durable { Mode::Durable } else { Mode::Transactional },
        workers: WORKERS,
        batch_size: 100,
        polling_interval: ms(200),
        claim_lease: secs(4),
        revoke_timeout: secs(3),
        ..InboxConfig::default()
    };
    (config.retry.initial, config.retry.max) = (ms(50), secs(1));
    (config.reconnect.initial, config.reconnect.max) = (ms(50), secs(1));
    config
}

async fn report(handle: &InboxHandle) -> anyhow::Error {
    loop {
        if let Err(error) = say(handle) {
            return error;
        }
        tokio::time::sleep(role::TALLY_INTERVAL).await;
    }
}

fn say(handle: &InboxHandle) -> Result<()> {
    let stats = handle.stats();
    role::say(&ConsumerTally {
        received: stats.received,
        processed: stats.processed,
        duplicates: stats.duplicates,
        held: stats.held,
        failed: stats.failed,
        dead: stats.dead,
        rolled_back: stats.rolled_back,
        transactions: stats.transactions,
        lost_claims: stats.lost_claims,
        lost_partitions: stats.lost_partitions,
        partitions: stats.partitions,
        is_alive: true,
    })
}
