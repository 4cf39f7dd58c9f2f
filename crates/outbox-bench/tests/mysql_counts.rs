//! What a drain costs MariaDB or MySQL, in counts that hardly depend on the machine.
#![allow(clippy::print_stdout)] // the figures, shown when a test fails

use std::time::Duration;

use outbox::RelayConfig;
use outbox_bench::relays::drain_between;
use outbox_bench::services::{MysqlDatabase, Services, Topic};
use outbox_bench::workload::Workload;

const ROWS: u32 = 20_000;
/// One row to read it and two to remove it, in the list of keys and in the table; a drain came to 3.1.
const ROWS_EXAMINED: f64 = 5.0;
/// Reads of 2,000 rows, removals of 1,000, or of fewer when the relay keeps up; a fixed part connects, leases and looks for more.
const STATEMENTS_PER_THOUSAND: f64 = 16.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_from_mysql_examines_and_asks_no_more_than_it_must() {
    let services = Services::from_env(Vec::new()).expect("PostgreSQL and Kafka");
    let server = services.mysql().expect("MariaDB or MySQL");
    let mut database = MysqlDatabase::create(&server).await.expect("a database");
    let measured = measure(&mut database, &services).await;
    database.remove().await.expect("the database is removed");
    let (rows, statements) = measured.expect("a drain");
    println!("{rows} rows examined and {statements} statements an event");

    assert!(
        (1.0..=ROWS_EXAMINED).contains(&rows),
        "{rows} rows examined an event, at most {ROWS_EXAMINED} were expected"
    );
    let per_thousand = statements * 1000.0;
    assert!(
        per_thousand > 0.0 && per_thousand <= STATEMENTS_PER_THOUSAND,
        "{per_thousand} statements for 1,000 events, at most {STATEMENTS_PER_THOUSAND} were expected"
    );
}

/// Rows examined and statements, by event.
async fn measure(database: &mut MysqlDatabase, services: &Services) -> anyhow::Result<(f64, f64)> {
    let topic = Topic::create(&services.kafka).await?;
    database.seed(&Workload::usual(usize::try_from(ROWS)?), &topic).await?;
    let before = database.counters().await?;
    // what depends on the time that a drain takes is kept out
    let config = RelayConfig { sweep_interval: Duration::from_secs(3600), ..RelayConfig::default() };
    drain_between(database.storage()?, topic.transport()?, config, u64::from(ROWS)).await?;
    let after = database.counters().await?;
    topic.remove().await?;
    let by_event = |count: i64| i32::try_from(count).map(|count| f64::from(count) / f64::from(ROWS));
    Ok((by_event(after.rows_examined_since(&before))?, by_event(after.statements_since(&before))?))
}
