use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::bench::{Bench, sample, sample_counts};
use crate::relays::{Baseline, drain};
use crate::report::{Measure, Measurement, Target};
use crate::services::{Counters, Outbox, Topic};
use crate::workload::Workload;

/// What another session does for the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// It reads in one snapshot, so that nothing that is deleted can be vacuumed.
    Snapshot,
    /// It has appended an event and does not commit, so that a late commit may come at any time.
    Writer,
}

/// (d) A drain while another session holds a snapshot, or a write transaction, open.
pub(super) async fn held(bench: &Bench) -> Result<Measurement> {
    let workload = Workload::usual(bench.options.rows);
    let mut measurement = Measurement::new('d', format!("drain of {} rows beside an open transaction", workload.rows));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        for held in [Held::Nothing, Held::Snapshot, Held::Writer] {
            ours(bench, to, &workload, held).await?;
        }
        for held in [Held::Nothing, Held::Snapshot] {
            baseline(bench, to, &workload, held).await?;
        }
    }
    for held in [Held::Snapshot, Held::Writer] {
        let target = Some(Target::AtLeast(0.9));
        to.quotient(Measure::EventsPerSecond, &held.variant("ours"), &Held::Nothing.variant("ours"), target);
    }
    let (with, without) = (Held::Snapshot.variant("baseline"), Held::Nothing.variant("baseline"));
    to.quotient(Measure::EventsPerSecond, &with, &without, None);
    Ok(measurement)
}

async fn ours(bench: &Bench, to: &mut Measurement, workload: &Workload, held: Held) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    outbox.seed(&bench.client, workload, &topic).await?;
    let session = held.open(bench, &outbox, &topic).await?;
    let (table, others) = (outbox.tables().messages(), i64::from(session.is_some()));
    let before = Counters::read(&bench.client, table, others).await?;
    let drained = drain(&outbox, &topic, bench.config(), workload.rows as u64).await?;
    let after = Counters::read(&bench.client, table, others).await?;
    sample(to, &held.variant("ours"), &drained);
    sample_counts(to, &held.variant("ours"), workload.rows as u64, &before, &after);
    close(session).await?;
    bench.clear(outbox, topic).await
}

async fn baseline(bench: &Bench, to: &mut Measurement, workload: &Workload, held: Held) -> Result<()> {
    let (outbox, topic) = bench.place().await?;
    let baseline = Baseline::create(&bench.client, &outbox, workload, &topic).await?;
    let session = held.open(bench, &outbox, &topic).await?;
    sample(to, &held.variant("baseline"), &baseline.drain(&bench.database, &topic).await?);
    close(session).await?;
    bench.clear(outbox, topic).await
}

impl Held {
    fn variant(self, relay: &str) -> String {
        match self {
            Self::Nothing => relay.to_owned(),
            Self::Snapshot => format!("{relay}, snapshot held"),
            Self::Writer => format!("{relay}, writer held"),
        }
    }

    async fn open(self, bench: &Bench, outbox: &Outbox, topic: &Topic) -> Result<Option<Client>> {
        let begin = match self {
            Self::Nothing => return Ok(None),
            Self::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()".to_owned(),
            Self::Writer => {
                let one = Workload::usual(1).insert(outbox.tables().messages(), topic.name());
                format!("BEGIN; {one}")
            }
        };
        let client = bench.database.connect().await?;
        client.batch_execute(&begin).await.context("opening the other transaction")?;
        Ok(Some(client))
    }
}

/// Rolls back before the schema is dropped, which would wait for it.
async fn close(session: Option<Client>) -> Result<()> {
    match session {
        Some(client) => client.batch_execute("ROLLBACK").await.context("ending the other transaction"),
        None => Ok(()),
    }
}
