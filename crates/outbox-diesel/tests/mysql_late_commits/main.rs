//! Late commits for real: order must hold although transactions commit out of the order of their sequence numbers.
//!
//! `OUTBOX_TEST_LATE_EVENTS` sets the number of events (default 20,000; the full proof takes 100,000).
#![cfg(feature = "mysql")]
#![allow(clippy::print_stdout)] // the seed and the figures, shown when a test fails

#[path = "../postgres_late_commits/relays.rs"]
mod relays;
mod shop;
#[path = "../postgres_late_commits/verdict.rs"]
mod verdict;
#[path = "../postgres_late_commits/writers.rs"]
mod writers;

use diesel_async::SimpleAsyncConnection;
use tokio::sync::Mutex;

use relays::run;
use shop::Shop;

/// Each run wants the server for itself: a late commit is late by the clock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_are_delivered_in_order_by_two_relays() {
    let _alone = ONE_AT_A_TIME.lock().await;
    run(&Shop::create().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_are_delivered_in_order_while_a_write_transaction_stays_open_elsewhere() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let shop = Shop::create().await;
    // It has appended too: its row is watched for the whole run.
    let mut elsewhere = shop.connection().await;
    let held = "BEGIN; INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
                VALUES ('late', '0', 'late.never', '0')";
    elsewhere.batch_execute(held).await.expect("a transaction stays open");
    run(&shop).await;
    elsewhere.batch_execute("ROLLBACK").await.expect("it was open all the time");
}
