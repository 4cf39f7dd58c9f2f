use anyhow::Result;

use super::large::Large;
use crate::bench::Bench;
use crate::report::{Measure, Measurement, Target};
use crate::workload::Workload;

const SMALL: usize = 100_000;

/// (c) As many events from a small backlog and from the bottom of a large one.
pub(super) async fn backlog(bench: &Bench, large: &Large) -> Result<Measurement> {
    let small = Workload::usual(SMALL);
    let [at_small, at_large] = [SMALL, bench.options.backlog].map(|rows| format!("at a backlog of {rows}"));
    let mut measurement = Measurement::new('c', format!("{SMALL} events at backlogs of two sizes"));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        bench.ours(to, &at_small, &small, 0).await?;
        bench.drain_seeded(to, &at_large, large.place(), SMALL as u64, 0).await?;
    }
    to.quotient(Measure::EventsPerSecond, &at_large, &at_small, Some(Target::AtLeast(0.9)));
    Ok(measurement)
}
