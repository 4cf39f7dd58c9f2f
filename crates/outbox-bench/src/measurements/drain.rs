use anyhow::Result;

use crate::bench::{Bench, sample, sample_counts};
use crate::relays::{produce_alone, read_alone};
use crate::report::{Measure, Measurement, Target};
use crate::services::Counters;
use crate::workload::Workload;

const OURS: &str = "ours";
const BASELINE: &str = "baseline";
const PRODUCER: &str = "producer alone";
const READ: &str = "keyset read alone";

/// (a) A backlog with many keys: ours, the baseline, and the ceilings.
pub(super) async fn drain(bench: &Bench) -> Result<Measurement> {
    let workload = Workload::usual(bench.options.rows);
    let mut measurement = Measurement::new('a', format!("drain of {} rows, 300 bytes, 10,000 keys", workload.rows));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        bench.ours(to, OURS, &workload, 0).await?;
        bench.baseline(to, BASELINE, &workload, 0).await?;
        produced(bench, to, &workload).await?;
        read(bench, to, &workload).await?;
    }
    let rate = Measure::EventsPerSecond;
    to.quotient(rate, OURS, BASELINE, Some(Target::AtLeast(3.0)));
    let slower = [PRODUCER, READ].into_iter().min_by(|a, b| {
        f64::total_cmp(&to.median(a, rate).unwrap_or(f64::INFINITY), &to.median(b, rate).unwrap_or(f64::INFINITY))
    });
    to.quotient(rate, OURS, slower.unwrap_or(READ), None);
    Ok(measurement)
}

async fn produced(bench: &Bench, to: &mut Measurement, workload: &Workload) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    sample(to, PRODUCER, &produce_alone(workload, &topic).await?);
    bench.clear(outbox, topic).await
}

async fn read(bench: &Bench, to: &mut Measurement, workload: &Workload) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    outbox.seed(&bench.client, workload, &topic).await?;
    let (table, rows) = (outbox.tables().messages(), workload.rows as u64);
    let before = Counters::read(&bench.client, table, 0).await?;
    let read = read_alone(&outbox, rows).await?;
    let after = Counters::read(&bench.client, table, 0).await?;
    sample(to, READ, &read);
    sample_counts(to, READ, rows, &before, &after);
    bench.clear(outbox, topic).await
}
