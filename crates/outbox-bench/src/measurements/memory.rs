use anyhow::Result;

use super::large::Large;
use crate::bench::{Bench, progress};
use crate::relays::ChildRelay;
use crate::report::{Measure, Measurement, Target};
use crate::workload::Workload;

const SMALL: &str = "300-byte payloads, large backlog";
const BIG: &str = "1 MiB payloads";
/// Of the large backlog: enough to have every buffer at its largest.
const SMALL_EVENTS: u64 = 500_000;
const BIG_EVENTS: usize = 400;

/// (g) Peak resident memory of a relay in a process of its own.
pub(super) async fn memory(bench: &Bench, large: &Large) -> Result<Measurement> {
    let mut measurement = Measurement::new('g', "peak memory of the relay's process");
    let to = &mut measurement;
    let big = Workload { payload_bytes: 1 << 20, ..Workload::usual(BIG_EVENTS) };
    let small_events = SMALL_EVENTS.min(bench.options.backlog as u64 / 10);
    for _ in 0..bench.options.rounds {
        let (outbox, topic) = large.place();
        sample(to, SMALL, ChildRelay::measure(outbox, topic, small_events).await?);

        let (outbox, topic) = bench.place().await?;
        outbox.seed(&bench.client, &big, &topic).await?;
        sample(to, BIG, ChildRelay::measure(&outbox, &topic, BIG_EVENTS as u64).await?);
        bench.clear(outbox, topic).await?;
    }
    to.judge(Measure::PeakResidentMib, SMALL, Target::AtMost(64.0));
    to.judge(Measure::PeakResidentMib, BIG, Target::AtMost(256.0));
    Ok(measurement)
}

fn sample(to: &mut Measurement, variant: &str, took: ChildRelay) {
    let mib = took.peak_mib();
    to.sample(variant, Measure::PeakResidentMib, mib);
    to.sample(variant, Measure::EventsPerSecond, took.rate);
    progress(to, variant, &format!("{mib:.1} MiB, {:.0} events/s", took.rate));
}
