//! What a drain costs PostgreSQL, in counts that do not depend on the machine.

use std::time::Duration;

use outbox::RelayConfig;
use outbox_bench::bench::{Bench, sample_counts};
use outbox_bench::options::Options;
use outbox_bench::relays::drain;
use outbox_bench::report::{Measure, Measurement};
use outbox_bench::services::{Counters, Services};
use outbox_bench::workload::Workload;

const ROWS: u64 = 20_000;
/// One entry to read it, one to remove it, and a fixed part: the relay estimates its backlog from 16,401 rows at the start, and sweeps.
const ROWS_EXAMINED: f64 = 3.2;
/// A deletion takes 54 to 70 bytes of log; the rest is vacuum's, pruning's and other sessions' of the server.
const WAL_BYTES: f64 = 150.0;
/// Reads and removals of 2,000 rows, or of fewer when the relay keeps up; a fixed part connects, leases and looks for more.
const STATEMENTS_PER_THOUSAND: f64 = 8.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_examines_logs_and_asks_no_more_than_it_must() {
    let services = Services::from_env(Vec::new()).expect("PostgreSQL and Kafka");
    let bench = Bench::new(services, Options::default()).await.expect("a database");
    let measured = measure(&bench).await;
    bench.remove().await.expect("the database is removed");
    let measured = measured.expect("a drain");

    for (measure, most) in [
        (Measure::RowsExaminedPerEvent, ROWS_EXAMINED),
        (Measure::WalBytesPerEvent, WAL_BYTES),
        (Measure::StatementsPerThousandEvents, STATEMENTS_PER_THOUSAND),
    ] {
        let value = measured.median("ours", measure).expect("it was counted");
        assert!(value > 0.0 && value <= most, "{} is {value}, at most {most} was expected", measure.label());
    }
}

async fn measure(bench: &Bench) -> anyhow::Result<Measurement> {
    let mut measurement = Measurement::new('a', "counts");
    let (outbox, topic) = bench.place().await?;
    let workload = Workload::usual(usize::try_from(ROWS)?);
    outbox.seed(&bench.client, &workload, &topic).await?;
    let table = outbox.tables().messages();
    let before = Counters::read(&bench.client, table, 0).await?;
    // what depends on the time that a drain takes is kept out
    let config = RelayConfig { sweep_interval: Duration::from_secs(3600), ..RelayConfig::default() };
    drain(&outbox, &topic, config, ROWS).await?;
    let after = Counters::read(&bench.client, table, 0).await?;
    sample_counts(&mut measurement, "ours", ROWS, &before, &after);
    bench.clear(outbox, topic).await?;
    Ok(measurement)
}
