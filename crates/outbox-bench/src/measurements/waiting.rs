use anyhow::{Result, ensure};
use outbox::ports::Storage as _;

use crate::bench::{Bench, sample, sample_counts};
use crate::relays::drain;
use crate::report::{Measure, Measurement, Target};
use crate::services::{Counters, Outbox, Topic};
use crate::workload::Workload;

/// What lies below the rows that can be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bottom {
    Nothing,
    /// Followers of one parked key.
    Parked,
    /// Rows that are available tomorrow.
    Scheduled,
}

const ALL: [Bottom; 3] = [Bottom::Nothing, Bottom::Parked, Bottom::Scheduled];

/// (h) A drain above a million rows that wait. The total includes the start, when the relay has to pass them.
pub(super) async fn waiting(bench: &Bench) -> Result<Measurement> {
    let rows = bench.options.rows;
    let mut measurement =
        Measurement::new('h', format!("drain of {rows} rows above {} that wait", bench.options.waiting));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        for bottom in ALL {
            above(bench, to, bottom).await?;
        }
    }
    for bottom in &ALL[1..] {
        let target = Some(Target::AtLeast(0.9));
        to.quotient(Measure::EventsPerSecond, bottom.variant(), Bottom::Nothing.variant(), target);
    }
    Ok(measurement)
}

async fn above(bench: &Bench, to: &mut Measurement, bottom: Bottom) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    bottom.seed(bench, &outbox, &topic).await?;
    let waiting = outbox.pending(&bench.client).await?;
    let workload = Workload::usual(bench.options.rows);
    outbox.seed(&bench.client, &workload, &topic).await?;

    let (table, rows) = (outbox.tables().messages(), workload.rows as u64);
    let before = Counters::read(&bench.client, table, 0).await?;
    let drained = drain(&outbox, &topic, bench.config(), rows).await?;
    let after = Counters::read(&bench.client, table, 0).await?;
    let left = outbox.pending(&bench.client).await?;
    ensure!(left == waiting, "{waiting} rows had to wait and {left} do");
    sample(to, bottom.variant(), &drained);
    to.sample(bottom.variant(), Measure::TotalSeconds, drained.total().as_secs_f64());
    sample_counts(to, bottom.variant(), rows, &before, &after);
    bench.clear(outbox, topic).await
}

impl Bottom {
    fn variant(self) -> &'static str {
        match self {
            Self::Nothing => "nothing waits",
            Self::Parked => "followers of a parked key",
            Self::Scheduled => "scheduled rows",
        }
    }

    async fn seed(self, bench: &Bench, outbox: &Outbox, topic: &Topic) -> Result<()> {
        let usual = Workload::usual(bench.options.waiting);
        let workload = match self {
            Self::Nothing => return Ok(()),
            // a key of its own: the usual keys begin with another word
            Self::Parked => Workload { keys: 1, key_prefix: "parked", ..usual },
            Self::Scheduled => Workload { available_at: Some("clock_timestamp() + interval '1 day'"), ..usual },
        };
        outbox.seed(&bench.client, &workload, topic).await?;
        if self == Self::Parked {
            let storage = outbox.storage(false)?;
            ensure!(storage.admin().park(topic.name(), "parked-0").await?, "the key was parked already");
        }
        Ok(())
    }
}
