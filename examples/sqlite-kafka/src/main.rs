//! An orders service on SQLite with the relay in the same program, and a consumer on Kafka.
//!
//! ```text
//! docker compose up --detach --wait kafka
//! DATABASE=orders.db KAFKA=127.0.0.1:29092 cargo run -p example-sqlite-kafka
//! ```
//!
//! It makes its tables and its topic, places three orders and pays them, and one more that rolls back. The relay delivers the events to
//! the topic `order`, from where a consumer prints them as they arrive and checks their order; then the program ends.

#![allow(missing_docs, reason = "diesel::table! makes public items")]
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;

use anyhow::{Context, Result, ensure};
use diesel::{ExpressionMethods, QueryDsl, SqliteConnection, insert_into, update};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection, sync_connection_wrapper::SyncConnectionWrapper};
use outbox::{Event, KafkaTransport, Relay, RelayHandle, SqliteOutbox, SqliteStorage, Tables, migrations, sqlite};
use serde::Serialize;
use tokio::{sync::oneshot, task::spawn_blocking};
use uuid::Uuid;

#[path = "../../support/awaited.rs"]
mod awaited;
#[path = "../../support/kafka.rs"]
mod kafka;

use awaited::Awaited;

diesel::table! {
    shop_orders (id) {
        id -> BigInt,
        total_cents -> BigInt,
        paid -> Bool,
    }
}

type Connection = SyncConnectionWrapper<SqliteConnection>;

#[derive(Serialize)]
struct OrderPlaced {
    order_id: i64,
    total_cents: i64,
}

impl Event for OrderPlaced {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.placed";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

#[derive(Serialize)]
struct OrderPaid {
    order_id: i64,
}

impl Event for OrderPaid {
    const AGGREGATE_TYPE: &'static str = "order";
    const EVENT_TYPE: &'static str = "order.paid";

    fn aggregate_id(&self) -> Option<String> {
        Some(self.order_id.to_string())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = env::var("DATABASE").context("set DATABASE to a file, for example orders.db")?;
    let brokers = env::var("KAFKA").context("set KAFKA, for example 127.0.0.1:29092")?;
    let mut conn = sqlite::establish(&file).await?;
    migrations::sqlite::up(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION).await?;
    conn.batch_execute(
        "CREATE TABLE IF NOT EXISTS shop_orders \
         (id integer PRIMARY KEY, total_cents bigint NOT NULL, paid boolean NOT NULL DEFAULT false)",
    )
    .await?;
    kafka::make_topic(&brokers, OrderPlaced::AGGREGATE_TYPE).await?;

    let relay = Relay::builder(SqliteStorage::connect(&file).await?, KafkaTransport::connect(&brokers)?).build()?;
    let wake = relay.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));

    let committed = Shop { conn, outbox: SqliteOutbox::default(), wake }.open().await?;
    spawn_blocking(move || kafka::consume(&brokers, OrderPlaced::AGGREGATE_TYPE, committed)).await??;

    drop(stop);
    let report = running.await??;
    ensure!(report.drained, "the relay could not finish what was in flight");
    println!("every committed event arrived, those of one order in the order of their commits");
    Ok(())
}

struct Shop {
    conn: Connection,
    outbox: SqliteOutbox,
    /// Nudged after a commit, the relay reads at once instead of at its next poll.
    wake: RelayHandle,
}

impl Shop {
    async fn open(mut self) -> Result<Awaited> {
        let mut committed = Awaited::default();
        let mut orders = Vec::new();
        for total_cents in [1250, 990, 4200] {
            let (order_id, event_id) = self.place_order(total_cents, true).await?;
            committed.committed(order_id, event_id);
            orders.push(order_id);
        }
        for order_id in orders {
            committed.committed(order_id, self.pay_order(order_id).await?);
        }
        if let Err(refused) = self.place_order(9900, false).await {
            println!("rolled back, order and event: {refused}");
        }
        Ok(committed)
    }

    /// The order and its event commit together, or neither does. `BEGIN IMMEDIATE` waits for other writers at the start, where
    /// waiting works; a transaction that begins with a read cannot always become a writer.
    async fn place_order(&mut self, total_cents: i64, in_stock: bool) -> Result<(i64, Uuid)> {
        let Self { conn, outbox, wake } = self;
        let placed: Result<(i64, Uuid)> = conn
            .immediate_transaction(async |conn| {
                let order_id: i64 = insert_into(shop_orders::table)
                    .values(shop_orders::total_cents.eq(total_cents))
                    .returning(shop_orders::id)
                    .get_result(conn)
                    .await?;
                let event_id = outbox.append(conn, &OrderPlaced { order_id, total_cents }).await?;
                ensure!(in_stock, "sold out");
                Ok((order_id, event_id))
            })
            .await;
        wake.nudge();
        placed
    }

    /// Writers of one order follow each other by themselves: SQLite has one writer at a time.
    async fn pay_order(&mut self, order_id: i64) -> Result<Uuid> {
        let Self { conn, outbox, wake } = self;
        let paid: Result<Uuid> = conn
            .immediate_transaction(async |conn| {
                update(shop_orders::table.find(order_id)).set(shop_orders::paid.eq(true)).execute(conn).await?;
                Ok(outbox.append(conn, &OrderPaid { order_id }).await?)
            })
            .await;
        wake.nudge();
        paid
    }
}
