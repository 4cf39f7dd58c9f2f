//! The orders service: places a day's orders on PostgreSQL, and its relay delivers their events to Kafka.
//!
//! ```text
//! docker compose up --detach --wait postgres kafka rabbitmq
//! export DATABASE_URL=postgres://postgres@127.0.0.1:25432/postgres KAFKA=127.0.0.1:29092 AMQP=amqp://guest:guest@127.0.0.1:25672/%2f
//! cargo run -p example-orders-billing --bin orders
//! ```
//!
//! Start `billing` and `ledger` too, before or after it. It ends when Kafka has everything that was committed.

#![allow(missing_docs, reason = "diesel::table! makes public items")]
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;

use anyhow::{Context, Error, Result, ensure};
use diesel::{ExpressionMethods, QueryableByName, insert_into, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use example_orders_billing::{
    day,
    events::{OrderPlaced, OrdersClosed},
    service::{Service, kafka},
    topic,
};
use outbox::{KafkaTransport, PostgresOutbox, PostgresStorage, Relay, RelayHandle};
use tokio::{sync::oneshot, try_join};
use uuid::Uuid;

const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, day uuid NOT NULL, total_cents bigint NOT NULL)";

/// Orders of a day, unless `ORDERS` says otherwise.
const ORDERS: u64 = 1000;

diesel::table! {
    orders (id) {
        id -> BigInt,
        day -> Uuid,
        total_cents -> BigInt,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (service, brokers) = (Service::new("orders")?, kafka()?);
    let number = env::var("ORDERS").map_or(Ok(ORDERS), |text| text.parse()).context("ORDERS: it must be a number")?;
    let mut conn = service.migrate(TABLES).await?;
    let name = service.named("order");
    topic::make(&brokers, &name).await?;

    let transport = KafkaTransport::builder(&brokers).topic_template(&name).source("/orders").build()?;
    let relay = Relay::builder(PostgresStorage::connect(&service.url()).await?, transport).build()?;
    let wake = relay.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let relaying = async {
        let stopped = async { drop(stopped.await) };
        Ok::<_, Error>(relay.run(stopped).await?)
    };
    let trading = async {
        let closed = Shop { conn: &mut conn, outbox: PostgresOutbox::default(), wake }.trade(number).await?;
        day::delivered(&mut conn).await?;
        drop(stop);
        Ok(closed)
    };
    let (report, closed) = try_join!(relaying, trading)?;
    ensure!(report.drained, "the relay could not finish what was in flight");
    println!("orders: {} of {} cents are placed, and Kafka has their events", closed.orders, closed.total_cents);
    Ok(())
}

struct Shop<'c> {
    conn: &'c mut AsyncPgConnection,
    outbox: PostgresOutbox,
    /// Nudged after a commit, the relay reads at once instead of at its next poll.
    wake: RelayHandle,
}

#[derive(QueryableByName)]
struct Totals {
    #[diesel(sql_type = sql_types::BigInt)]
    orders: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    total_cents: i64,
}

impl Shop<'_> {
    /// A day with so many orders, and some that do not come about.
    async fn trade(&mut self, number: u64) -> Result<OrdersClosed> {
        let day = Uuid::now_v7();
        for n in 0..number {
            self.place(day, 1_000 + (n * 37 % 9_000) as i64, true).await?;
            if n % 10 == 9 {
                let declined = self.place(day, 123_456, false).await;
                ensure!(declined.is_err(), "an order was placed whose card was declined");
            }
        }
        self.close(day).await
    }

    /// The order and its event commit together, or neither does.
    async fn place(&mut self, day: Uuid, total_cents: i64, card_is_good: bool) -> Result<()> {
        let Self { conn, outbox, wake } = self;
        let placed: Result<()> = conn
            .transaction(async |conn| {
                let order_id: i64 = insert_into(orders::table)
                    .values((orders::day.eq(day), orders::total_cents.eq(total_cents)))
                    .returning(orders::id)
                    .get_result(conn)
                    .await?;
                outbox.append(conn, &OrderPlaced { day, order_id, total_cents }).await?;
                ensure!(card_is_good, "the card was declined");
                Ok(())
            })
            .await;
        wake.nudge();
        placed
    }

    /// The control totals are what the database says.
    async fn close(&mut self, day: Uuid) -> Result<OrdersClosed> {
        let Self { conn, outbox, wake } = self;
        let closed: Result<OrdersClosed> = conn
            .transaction(async |conn| {
                let sql = "SELECT count(*) AS orders, coalesce(sum(total_cents), 0)::bigint AS total_cents FROM orders WHERE day = $1";
                let totals: Totals = sql_query(sql).bind::<sql_types::Uuid, _>(day).get_result(conn).await?;
                let closed = OrdersClosed { day, orders: totals.orders, total_cents: totals.total_cents };
                outbox.append(conn, &closed).await?;
                Ok(closed)
            })
            .await;
        wake.nudge();
        closed
    }
}
