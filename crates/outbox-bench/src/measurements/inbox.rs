use anyhow::Result;

use crate::bench::{Bench, progress};
use crate::consumers::{ChildConsumer, Committing, consume, consume_plainly};
use crate::relays::{Drained, as_f64, produce_alone};
use crate::report::{Measure, Measurement, Target};
use crate::services::{Counters, InboxPlace, Topic};
use crate::workload::Workload;

const OURS: &str = "ours, one-row effect";
/// Consumers without an inbox, and the part of the messages that each gets: the slow ones need not apply all.
const PLAIN: [(&str, Committing, usize); 3] = [
    ("plain, one transaction a message", Committing::EachMessage, 5),
    ("plain, one statement a message", Committing::EachStatement, 5),
    ("plain, batches without dedup", Committing::Batches, 1),
];
/// The larger run of the memory, to the smaller one.
const LARGER: usize = 10;

/// (l) A topic from Kafka into PostgreSQL, through the inbox and by consumers without.
pub(super) async fn inbox(bench: &Bench) -> Result<Measurement> {
    let workload = Workload::usual(bench.options.rows);
    let events = workload.rows as u64;
    let title = format!("{events} messages of 300 bytes from Kafka into PostgreSQL, 12 partitions");
    let mut measurement = Measurement::new('l', title);
    let to = &mut measurement;
    let topic = Topic::create(&bench.services.kafka).await?;
    produce_alone(&workload, &topic).await?;
    for _ in 0..bench.options.rounds {
        ours(bench, to, &topic, events).await?;
        for (variant, committing, part) in PLAIN {
            let place = InboxPlace::create(&bench.database, &bench.client).await?;
            let events = (workload.rows / part) as u64;
            let drained = consume_plainly(&place, &topic, events, committing).await?;
            place.holds(&bench.client, events).await?;
            sample(to, variant, &drained);
            place.remove(&bench.client).await?;
        }
    }
    topic.remove().await?;
    for rows in [bench.options.rows / 2, bench.options.rows / 2 * LARGER] {
        memory(bench, to, rows).await?;
    }
    let rate = Measure::EventsPerSecond;
    let [transactions, statements, batches] = PLAIN.map(|(variant, ..)| variant);
    to.quotient(rate, OURS, transactions, Some(Target::AtLeast(5.0)));
    to.quotient(rate, OURS, statements, None);
    to.quotient(rate, OURS, batches, None);
    let [small, large] = [1, LARGER].map(|times| in_a_process(bench.options.rows / 2 * times));
    to.quotient(Measure::PeakResidentMib, &large, &small, Some(Target::AtMost(1.2)));
    Ok(measurement)
}

async fn ours(bench: &Bench, to: &mut Measurement, topic: &Topic, events: u64) -> Result<()> {
    let place = InboxPlace::create(&bench.database, &bench.client).await?;
    let table = place.identities();
    let before = Counters::read(&bench.client, &table, 0).await?;
    let (drained, stats) = consume(&place, topic, events).await?;
    let after = Counters::read(&bench.client, &table, 0).await?;
    place.holds(&bench.client, events).await?;
    sample(to, OURS, &drained);
    to.sample(OURS, Measure::TransactionsPerThousandEvents, as_f64(stats.transactions) / as_f64(events) * 1000.0);
    to.sample(OURS, Measure::WalBytesPerEvent, as_f64(u64::try_from(after.wal_bytes_since(&before))?) / as_f64(events));
    place.remove(&bench.client).await
}

/// What the process of a consumer holds at most.
async fn memory(bench: &Bench, to: &mut Measurement, rows: usize) -> Result<()> {
    let (variant, topic) = (in_a_process(rows), Topic::create(&bench.services.kafka).await?);
    produce_alone(&Workload::usual(rows), &topic).await?;
    let place = InboxPlace::create(&bench.database, &bench.client).await?;
    let took = ChildConsumer::measure(&place, &topic, rows as u64).await?;
    place.holds(&bench.client, rows as u64).await?;
    to.sample(&variant, Measure::PeakResidentMib, took.peak_mib());
    to.sample(&variant, Measure::EventsPerSecond, took.rate);
    progress(to, &variant, &format!("{:.1} MiB, {:.0} events/s", took.peak_mib(), took.rate));
    place.remove(&bench.client).await?;
    topic.remove().await
}

fn in_a_process(rows: usize) -> String {
    format!("ours in a process of its own, {rows} messages")
}

fn sample(to: &mut Measurement, variant: &str, drained: &Drained) {
    to.sample(variant, Measure::EventsPerSecond, drained.rate());
    if let Some(cpu) = drained.cpu {
        to.sample(variant, Measure::ConsumerCpuMicrosPerEvent, cpu.as_secs_f64() * 1e6 / as_f64(drained.events));
    }
    if let Some(cpu) = drained.machine_cpu {
        to.sample(variant, Measure::MachineCpuMicrosPerEvent, cpu.as_secs_f64() * 1e6 / as_f64(drained.events));
    }
    progress(to, variant, &format!("{:.0} events/s", drained.rate()));
}
