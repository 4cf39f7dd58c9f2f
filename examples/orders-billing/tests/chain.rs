//! The three programs on real services (`cargo xtask test` names them): sums at each stage, by SQL that shares nothing with the programs.

mod surroundings;

use surroundings::Surroundings;

const ORDERS: i64 = 600;
/// Lets the orders service wait with its next order.
const NO_ORDERS: &str = "LOCK TABLE orders.orders IN SHARE MODE";

/// What every stage must have: as many rows as orders, one for each, and the same sum.
async fn assert_sums(surroundings: &Surroundings) {
    let stages = [("orders", "orders", "id"), ("billing", "invoices", "order_id"), ("ledger", "entries", "order_id")];
    let mut sums = Vec::new();
    for (schema, table, order) in stages {
        let of = |what: &str| format!("SELECT {what} FROM {schema}.{table}");
        assert_eq!(surroundings.number(&of("count(*)")).await, ORDERS, "rows of {table}");
        assert_eq!(surroundings.number(&of(&format!("count(DISTINCT {order})"))).await, ORDERS, "orders of {table}");
        sums.push(surroundings.number(&of("sum(total_cents)::bigint")).await);
    }
    assert!(sums[0] > 0 && sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    for (schema, table) in [
        ("orders", "outbox_messages"),
        ("orders", "outbox_dead_letters"),
        ("billing", "outbox_messages"),
        ("billing", "outbox_dead_letters"),
        ("billing", "inbox_held"),
        ("billing", "inbox_dead_letters"),
        ("ledger", "inbox_held"),
        ("ledger", "inbox_dead_letters"),
    ] {
        let left = surroundings.number(&format!("SELECT count(*) FROM {schema}.{table}")).await;
        assert_eq!(left, 0, "{schema}.{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_becomes_one_invoice_and_one_entry() {
    let surroundings = Surroundings::make(ORDERS).await;
    let [billing, ledger, orders] = ["billing", "ledger", "orders"].map(|name| surroundings.start(name));
    for program in [orders, billing, ledger] {
        program.succeeds();
    }
    assert_sums(&surroundings).await;
    surroundings.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_killed_and_started_again_make_no_difference() {
    let surroundings = Surroundings::make(ORDERS).await;
    let [billing, ledger, orders] = ["billing", "ledger", "orders"].map(|name| surroundings.start(name));
    surroundings.until_more("orders.orders", 0).await;
    let before_noon = surroundings.hold(NO_ORDERS).await;
    surroundings.until_more("ledger.entries", 0).await;
    drop(before_noon);
    let arrived = surroundings.number("SELECT count(*) FROM ledger.entries").await;
    surroundings.until_more("orders.orders", arrived + 50).await;
    // now the others have work in hand, and cannot finish the day
    let at_noon = surroundings.hold(NO_ORDERS).await;
    billing.kill();
    ledger.kill();
    assert!(surroundings.number("SELECT count(*) FROM orders.orders").await < ORDERS, "the day was too short");
    drop(at_noon);
    let [billing, ledger] = ["billing", "ledger"].map(|name| surroundings.start(name));
    for program in [orders, billing, ledger] {
        program.succeeds();
    }
    assert_sums(&surroundings).await;
    surroundings.remove().await;
}
