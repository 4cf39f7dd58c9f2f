//! Late commits for real: order must hold although transactions commit out of the order of their sequence numbers.
//!
//! `OUTBOX_TEST_LATE_EVENTS` sets the number of events (default 20,000; the full proof takes 100,000).
#![cfg(feature = "postgres")]
#![allow(clippy::print_stdout)] // the seed and the figures, shown when a test fails

mod relays;
mod shop;
mod verdict;
mod writers;

use diesel_async::SimpleAsyncConnection;
use tokio::sync::Mutex;

use relays::run;
use shop::Shop;

/// A transaction that is open in one run is running in the snapshots of the other, so they follow each other.
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
    let mut elsewhere = shop.connection().await;
    let held = "CREATE TABLE elsewhere (n int); BEGIN; INSERT INTO elsewhere VALUES (1)";
    elsewhere.batch_execute(held).await.expect("a transaction stays open");
    run(&shop).await;
    elsewhere.batch_execute("ROLLBACK").await.expect("it was open all the time");
}
