use anyhow::Result;

use crate::bench::Bench;
use crate::report::{Measure, Measurement, Target};
use crate::workload::Workload;

const PLAIN: &str = "ours, 10,000 keys";
const ONE: &str = "ours, one hot key";
const TEN: &str = "ours, 10 keys";

/// (b) The same drain when everything has one key, or ten: one shard and one partition do all the work.
pub(super) async fn keys(bench: &Bench) -> Result<Measurement> {
    let plain = Workload::usual(bench.options.rows);
    let with = |keys: usize| Workload { keys, ..plain.clone() };
    let mut measurement = Measurement::new('b', format!("drain of {} rows with few keys", plain.rows));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        bench.ours(to, PLAIN, &plain, 0).await?;
        bench.ours(to, ONE, &with(1), 0).await?;
        bench.ours(to, TEN, &with(10), 0).await?;
        bench.baseline(to, "baseline, one hot key", &with(1), 0).await?;
    }
    to.quotient(Measure::EventsPerSecond, ONE, PLAIN, Some(Target::AtLeast(0.3)));
    to.quotient(Measure::EventsPerSecond, TEN, PLAIN, None);
    Ok(measurement)
}
