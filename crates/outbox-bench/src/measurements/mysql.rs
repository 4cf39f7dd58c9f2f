use anyhow::{Result, ensure};

use crate::bench::{Bench, sample};
use crate::relays::{MysqlBaseline, as_f64, drain_between};
use crate::report::{Measure, Measurement, Target};
use crate::services::{MysqlCounters, MysqlDatabase, Topic};
use crate::workload::Workload;

const OURS: &str = "ours, MariaDB to Kafka";
const BASELINE: &str = "baseline";

/// (j) A backlog from MariaDB or MySQL into Kafka: ours and the baseline.
pub(super) async fn mysql(bench: &Bench) -> Result<Measurement> {
    let workload = Workload::usual(bench.options.rows);
    let mut measurement = Measurement::new('j', format!("drain of {} rows from MariaDB", workload.rows));
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        ours(bench, to, &workload).await?;
        baseline(bench, to, &workload).await?;
    }
    to.quotient(Measure::EventsPerSecond, OURS, BASELINE, Some(Target::AtLeast(2.0)));
    Ok(measurement)
}

async fn ours(bench: &Bench, to: &mut Measurement, workload: &Workload) -> Result<()> {
    let mut database = MysqlDatabase::create(&bench.services.mysql()?).await?;
    let topic = Topic::create(&bench.services.kafka).await?;
    database.seed(workload, &topic).await?;
    let before = database.counters().await?;
    let (storage, events) = (database.storage()?, workload.rows as u64);
    let (drained, removed) = drain_between(storage, topic.transport()?, bench.config(), events).await?;
    let records = topic.records().await?;
    ensure!(records == removed, "{removed} events were removed and the topic has {records} records");
    sample(to, OURS, &drained);
    sample_counts(to, OURS, events, &before, &database.counters().await?);
    topic.remove().await?;
    database.remove().await
}

async fn baseline(bench: &Bench, to: &mut Measurement, workload: &Workload) -> Result<()> {
    let mut database = MysqlDatabase::create(&bench.services.mysql()?).await?;
    let topic = Topic::create(&bench.services.kafka).await?;
    MysqlBaseline::create(&mut database, workload, &topic).await?;
    let before = database.counters().await?;
    sample(to, BASELINE, &MysqlBaseline::drain(&database, &topic).await?);
    sample_counts(to, BASELINE, workload.rows as u64, &before, &database.counters().await?);
    topic.remove().await?;
    database.remove().await
}

/// Adds what the server counted for `events`.
fn sample_counts(to: &mut Measurement, variant: &str, events: u64, before: &MysqlCounters, after: &MysqlCounters) {
    let by_event = |count: i64| as_f64(u64::try_from(count).unwrap_or(0)) / as_f64(events);
    to.sample(variant, Measure::RowsExaminedPerEvent, by_event(after.rows_examined_since(before)));
    to.sample(variant, Measure::StatementsPerThousandEvents, by_event(after.statements_since(before)) * 1000.0);
}
