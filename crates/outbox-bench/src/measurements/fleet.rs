use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use outbox::RelayConfig;

use crate::bench::{Bench, progress};
use crate::relays::{OurRelay, as_f64, wait_for};
use crate::report::{Measure, Measurement, Target};
use crate::services::Counters;
use crate::workload::Workload;

const SIZES: [u64; 4] = [1, 2, 4, 16];
const SHARDS: u64 = 64;
/// Short, so that the shards are spread soon.
const LEASE: Duration = Duration::from_secs(3);
const SPREAD_LIMIT: Duration = Duration::from_secs(60);

/// (f) The same rows for 1, 2, 4 and 16 relays that share the shards, committed at once when each has its share.
pub(super) async fn fleet(bench: &Bench) -> Result<Measurement> {
    let workload = Workload::usual(bench.options.rows);
    let mut measurement = Measurement::new('f', format!("{} rows for several relays", workload.rows));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        for relays in SIZES {
            one_fleet(bench, to, &workload, relays).await?;
        }
    }
    for relays in &SIZES[1..] {
        to.quotient(Measure::EventsPerSecond, &variant(*relays), &variant(1), None);
    }
    let most = Some(Target::AtMost(1.5));
    to.quotient(Measure::RowsExaminedPerEvent, &variant(16), &variant(1), most);
    Ok(measurement)
}

fn variant(relays: u64) -> String {
    if relays == 1 { "1 relay".to_owned() } else { format!("{relays} relays") }
}

async fn one_fleet(bench: &Bench, to: &mut Measurement, workload: &Workload, size: u64) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    let table = outbox.tables().messages();
    let before = Counters::read(&bench.client, table, 0).await?;
    let config = RelayConfig { lease_duration: LEASE, ..bench.config() };
    let relays = (0..size).map(|_| OurRelay::start(&outbox, &topic, config.clone())).collect::<Result<Vec<_>>>()?;
    shards_are_shared(&relays).await?;

    let rows = workload.rows as u64;
    // Locked, so that nobody looks at rows that are not committed yet: that would be counted, and is not what is measured.
    let insert = workload.insert(table, topic.name());
    bench.client.batch_execute(&format!("BEGIN; LOCK TABLE {table}; {insert}; COMMIT")).await?;
    let committed = Instant::now();
    relays.iter().for_each(|relay| relay.handle().nudge());
    wait_for(&relays.iter().collect::<Vec<_>>(), rows, |_, _| {}).await?;
    let took = committed.elapsed();

    for report in join_all(relays.into_iter().map(OurRelay::stop)).await {
        report?;
    }
    let records = topic.records().await?;
    ensure!(records == rows, "{rows} events were removed and the topic has {records} records");
    let after = Counters::read(&bench.client, table, 0).await?;
    let rate = as_f64(rows) / took.as_secs_f64();
    to.sample(&variant(size), Measure::EventsPerSecond, rate);
    let examined = u64::try_from(after.rows_examined_since(&before))?;
    to.sample(&variant(size), Measure::RowsExaminedPerEvent, as_f64(examined) / as_f64(rows));
    progress(to, &variant(size), &format!("{rate:.0} events/s"));
    bench.clear(outbox, topic).await
}

async fn shards_are_shared(relays: &[OurRelay]) -> Result<()> {
    let share = SHARDS.div_ceil(relays.len() as u64);
    let deadline = Instant::now() + SPREAD_LIMIT;
    loop {
        let owned: Vec<_> = relays.iter().map(|relay| relay.handle().stats().owned_shards).collect();
        if owned.iter().sum::<u64>() == SHARDS && owned.iter().all(|owned| *owned <= share) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the shards were not shared within {SPREAD_LIMIT:?}: {owned:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
