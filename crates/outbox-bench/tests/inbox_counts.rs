//! What the inbox costs PostgreSQL, in counts that do not depend on the machine.

use outbox_bench::bench::Bench;
use outbox_bench::consumers::consume;
use outbox_bench::options::Options;
use outbox_bench::relays::{as_f64, produce_alone};
use outbox_bench::services::{Counters, InboxPlace, Services, Topic};
use outbox_bench::workload::Workload;

const ROWS: u64 = 20_000;
/// Batches of up to 500 from four workers; fewer when the inbox keeps up with the broker. One message a transaction would be 1,000.
const TRANSACTIONS_PER_THOUSAND: f64 = 20.0;
/// Of the dedup table, through its index: one look to find no other, one to read it back before the commit, and what the purge looks at.
const ROWS_EXAMINED: f64 = 2.5;
/// The dedup row with its two index entries takes about 350 bytes, the effect 110; the rest is the server's other sessions'.
const WAL_BYTES: f64 = 900.0;

struct Costs {
    transactions: f64,
    rows_examined: f64,
    wal_bytes: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_costs_a_share_of_a_transaction_and_two_looks_at_its_identity() {
    let services = Services::from_env(Vec::new()).expect("PostgreSQL and Kafka");
    let bench = Bench::new(services, Options::default()).await.expect("a database");
    let measured = measure(&bench).await;
    bench.remove().await.expect("the database is removed");
    let costs = measured.expect("every message is applied once");

    for (what, value, most) in [
        ("transactions for 1,000 messages", costs.transactions, TRANSACTIONS_PER_THOUSAND),
        ("rows examined a message", costs.rows_examined, ROWS_EXAMINED),
        ("WAL bytes a message", costs.wal_bytes, WAL_BYTES),
    ] {
        assert!(value > 0.0 && value <= most, "{what}: {value}, at most {most} was expected");
    }
}

async fn measure(bench: &Bench) -> anyhow::Result<Costs> {
    let topic = Topic::create(&bench.services.kafka).await?;
    produce_alone(&Workload::usual(usize::try_from(ROWS)?), &topic).await?;
    let place = InboxPlace::create(&bench.database, &bench.client).await?;
    let table = place.identities();
    let before = Counters::read(&bench.client, &table, 0).await?;
    let (_, stats) = consume(&place, &topic, ROWS).await?;
    let after = Counters::read(&bench.client, &table, 0).await?;
    place.holds(&bench.client, ROWS).await?;
    place.remove(&bench.client).await?;
    topic.remove().await?;
    let each = |count: i64| anyhow::Ok(as_f64(u64::try_from(count)?) / as_f64(ROWS));
    Ok(Costs {
        transactions: as_f64(stats.transactions) / as_f64(ROWS) * 1000.0,
        rows_examined: each(after.rows_examined_since(&before))?,
        wal_bytes: each(after.wal_bytes_since(&before))?,
    })
}
