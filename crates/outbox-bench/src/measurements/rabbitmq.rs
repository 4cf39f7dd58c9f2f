use anyhow::Result;

use crate::bench::{Bench, sample};
use crate::relays::{Pipelining, drain_between, lapin_alone};
use crate::report::{Measure, Measurement, Target};
use crate::services::Queue;
use crate::workload::Workload;

const OURS: &str = "ours, PostgreSQL to RabbitMQ";
const LAPIN: &str = "lapin alone, confirms pipelined";
const LAPIN_ALL: &str = "lapin alone, everything pipelined";
const OURS_ONE_KEY: &str = "ours, one hot key";
const LAPIN_ONE: &str = "lapin alone, one unconfirmed message";

/// Of one hot key as many fewer rows go: each waits for the confirm of the one before.
const HOT_SHARE: usize = 20;

/// (i) A backlog from PostgreSQL into a quorum queue of RabbitMQ, and lapin without a relay.
pub(super) async fn rabbitmq(bench: &Bench) -> Result<Measurement> {
    let uri = bench.services.rabbitmq()?;
    let workload = Workload::usual(bench.options.rows);
    let hot = Workload { keys: 1, rows: workload.rows.div_ceil(HOT_SHARE), ..workload.clone() };
    let title = format!("drain of {} rows into RabbitMQ, of one hot key {}", workload.rows, hot.rows);
    let mut measurement = Measurement::new('i', title);
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        ours(bench, to, OURS, &uri, &workload).await?;
        alone(to, LAPIN, &uri, &workload, Pipelining::Confirms).await?;
        alone(to, LAPIN_ALL, &uri, &workload, Pipelining::Everything).await?;
        ours(bench, to, OURS_ONE_KEY, &uri, &hot).await?;
        alone(to, LAPIN_ONE, &uri, &hot, Pipelining::None).await?;
    }
    let rate = Measure::EventsPerSecond;
    to.quotient(rate, OURS, LAPIN, Some(Target::AtLeast(0.7)));
    to.quotient(rate, OURS, LAPIN_ALL, Some(Target::AtLeast(0.7)));
    to.quotient(rate, OURS_ONE_KEY, OURS, None);
    to.quotient(rate, OURS_ONE_KEY, LAPIN_ONE, None);
    Ok(measurement)
}

async fn ours(bench: &Bench, to: &mut Measurement, variant: &str, uri: &str, workload: &Workload) -> Result<()> {
    let ((outbox, topic), queue) = (bench.place().await?, Queue::create(uri).await?);
    outbox.seed(&bench.client, workload, &topic).await?;
    let (storage, transport) = (outbox.storage(false)?, queue.transport()?);
    let (drained, removed) = drain_between(storage, transport, bench.config(), workload.rows as u64).await?;
    queue.holds(removed).await?;
    sample(to, variant, &drained);
    queue.remove().await?;
    bench.clear(outbox, topic).await
}

async fn alone(
    to: &mut Measurement,
    variant: &str,
    uri: &str,
    workload: &Workload,
    pipelining: Pipelining,
) -> Result<()> {
    let queue = Queue::create(uri).await?;
    sample(to, variant, &lapin_alone(workload, &queue, pipelining).await?);
    queue.remove().await
}
