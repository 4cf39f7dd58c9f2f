use anyhow::Result;

use crate::bench::Bench;
use crate::services::{Outbox, Topic};
use crate::workload::Workload;

/// Events that one relay takes from it before it ends, beyond what it was asked for: what it had in flight.
const SLACK: usize = 100_000;

/// The large backlog, which takes longer to make than to use, so that measurements share it.
pub(super) struct Large {
    outbox: Outbox,
    topic: Topic,
}

impl Large {
    /// Makes it.
    pub(super) async fn seed(bench: &Bench) -> Result<Self> {
        let (outbox, topic) = bench.place().await?;
        let workload = Workload::usual(bench.options.backlog + SLACK);
        outbox.seed(&bench.client, &workload, &topic).await?;
        Ok(Self { outbox, topic })
    }

    pub(super) fn place(&self) -> (&Outbox, &Topic) {
        (&self.outbox, &self.topic)
    }

    pub(super) async fn remove(self, bench: &Bench) -> Result<()> {
        bench.clear(self.outbox, self.topic).await
    }
}
