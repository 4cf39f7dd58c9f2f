//! An orders service on PostgreSQL with the relay in the same program, and a consumer on RabbitMQ.
//!
//! ```text
//! docker compose up --detach --wait postgres rabbitmq
//! DATABASE_URL=postgres://postgres@127.0.0.1:25432/postgres AMQP=amqp://guest:guest@127.0.0.1:25672/%2f cargo run -p example-postgres-rabbitmq
//! ```
//!
//! It makes its tables and a queue, places three orders and pays them, and one more that rolls back. The relay delivers the events to
//! a quorum queue, from where a consumer prints them as they arrive and checks their order; then the program ends.

#![allow(missing_docs, reason = "diesel::table! makes public items")]
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;

use anyhow::{Context, Result, ensure};
use diesel::{ExpressionMethods, QueryDsl, insert_into, update};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox::{AmqpTransport, Event, PostgresOutbox, PostgresStorage, Relay, RelayHandle, Tables, migrations};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

#[path = "../../support/awaited.rs"]
mod awaited;
#[path = "../../support/rabbitmq.rs"]
mod rabbitmq;

use awaited::Awaited;

diesel::table! {
    shop_orders (id) {
        id -> BigInt,
        total_cents -> BigInt,
        paid -> Bool,
    }
}

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
    let url = env::var("DATABASE_URL")
        .context("set DATABASE_URL, for example postgres://postgres@127.0.0.1:25432/postgres")?;
    let broker = env::var("AMQP").context("set AMQP, for example amqp://guest:guest@127.0.0.1:25672/%2f")?;
    let mut conn = AsyncPgConnection::establish(&url).await?;
    migrations::postgres::up(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION).await?;
    conn.batch_execute(
        "CREATE TABLE IF NOT EXISTS shop_orders \
         (id bigserial PRIMARY KEY, total_cents bigint NOT NULL, paid boolean NOT NULL DEFAULT false)",
    )
    .await?;
    let queue = rabbitmq::make_queue(&broker).await?;

    let relay = Relay::builder(PostgresStorage::connect(&url).await?, AmqpTransport::connect(&broker)?).build()?;
    let wake = relay.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));

    let committed = Shop { conn, outbox: PostgresOutbox::default(), wake }.open().await?;
    rabbitmq::consume(&queue, committed).await?;

    drop(stop);
    let report = running.await??;
    ensure!(report.drained, "the relay could not finish what was in flight");
    println!("every committed event arrived, those of one order in the order of their commits");
    Ok(())
}

struct Shop {
    conn: AsyncPgConnection,
    outbox: PostgresOutbox,
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

    /// The order and its event commit together, or neither does.
    async fn place_order(&mut self, total_cents: i64, in_stock: bool) -> Result<(i64, Uuid)> {
        let Self { conn, outbox, wake } = self;
        let placed: Result<(i64, Uuid)> = conn
            .transaction(async |conn| {
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

    /// The change of the order's row comes first: its lock makes the writers of one order follow each other.
    async fn pay_order(&mut self, order_id: i64) -> Result<Uuid> {
        let Self { conn, outbox, wake } = self;
        let paid: Result<Uuid> = conn
            .transaction(async |conn| {
                update(shop_orders::table.find(order_id)).set(shop_orders::paid.eq(true)).execute(conn).await?;
                Ok(outbox.append(conn, &OrderPaid { order_id }).await?)
            })
            .await;
        wake.nudge();
        paid
    }
}
