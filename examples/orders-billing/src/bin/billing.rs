//! The billing service: an invoice for each order that Kafka delivers, on PostgreSQL, and its relay delivers their events to RabbitMQ.
//!
//! ```text
//! docker compose up --detach --wait postgres kafka rabbitmq
//! export DATABASE_URL=postgres://postgres@127.0.0.1:25432/postgres KAFKA=127.0.0.1:29092 AMQP=amqp://guest:guest@127.0.0.1:25672/%2f
//! cargo run -p example-orders-billing --bin billing
//! ```
//!
//! Start `orders` and `ledger` too, before or after it; kill it and start it again if you like. It ends when a day's orders all have their invoice,
//! the invoices' sum is the orders', and RabbitMQ has their events.

#![allow(missing_docs, reason = "diesel::table! makes public items")]
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use anyhow::{Error, Result, ensure};
use diesel::{ExpressionMethods, insert_into};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use example_orders_billing::{
    day,
    events::{InvoiceIssued, InvoicesClosed, OrderPlaced, OrdersClosed},
    service::{Service, amqp, kafka},
    topic,
};
use futures_util::FutureExt as _;
use outbox::{
    AmqpTransport, Delivery, Failure, Inbox, KafkaSource, PostgresInbox, PostgresOutbox, PostgresStorage, Relay,
};
use tokio::{sync::oneshot, try_join};

/// Nothing but the inbox keeps an order from having two invoices.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS invoices \
    (number bigserial PRIMARY KEY, day uuid NOT NULL, order_id bigint NOT NULL, total_cents bigint NOT NULL);";

/// How long a consumer that was killed keeps its partitions; 45 s are usual.
const SESSION_TIMEOUT_MS: &str = "6000";

diesel::table! {
    invoices (number) {
        number -> BigInt,
        day -> Uuid,
        order_id -> BigInt,
        total_cents -> BigInt,
    }
}

diesel::table! {
    days (day) {
        day -> Uuid,
        items -> BigInt,
        total_cents -> BigInt,
    }
}

/// The invoice, its event, and that this order was seen, commit together.
async fn bill(
    outbox: &PostgresOutbox,
    conn: &mut AsyncPgConnection,
    order: OrderPlaced,
    _: &Delivery,
) -> Result<(), Failure> {
    let OrderPlaced { day, order_id, total_cents } = order;
    insert_into(invoices::table)
        .values((invoices::day.eq(day), invoices::order_id.eq(order_id), invoices::total_cents.eq(total_cents)))
        .execute(conn)
        .await?;
    outbox.append(conn, &InvoiceIssued { day, order_id, total_cents }).await?;
    Ok(())
}

/// The control totals go on to the next service.
async fn close(
    outbox: &PostgresOutbox,
    conn: &mut AsyncPgConnection,
    closed: OrdersClosed,
    _: &Delivery,
) -> Result<(), Failure> {
    let OrdersClosed { day, orders, total_cents } = closed;
    insert_into(days::table)
        .values((days::day.eq(day), days::items.eq(orders), days::total_cents.eq(total_cents)))
        .execute(conn)
        .await?;
    outbox.append(conn, &InvoicesClosed { day, invoices: orders, total_cents }).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let (service, brokers, amqp) = (Service::new("billing")?, kafka()?, amqp()?);
    let mut conn = service.migrate(&[TABLES, day::TABLE].concat()).await?;
    let name = service.named("order");
    topic::make(&brokers, &name).await?;

    let source = KafkaSource::builder(&brokers, [name]).property("session.timeout.ms", SESSION_TIMEOUT_MS).build()?;
    let outbox = PostgresOutbox::default();
    let inbox = Inbox::builder(PostgresInbox::connect(&service.url()).await?, &service.named("billing"))
        .on_with(outbox.clone(), bill)
        .on_with(outbox, close)
        .source(source)
        .build()?;
    let transport = AmqpTransport::builder(&amqp).exchange(service.named("events")).source("/billing").build()?;
    let relay = Relay::builder(PostgresStorage::connect(&service.url()).await?, transport).build()?;

    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = stopped.map(drop).shared();
    let consuming = async { Ok::<_, Error>(inbox.run(stopped.clone()).await?) };
    let relaying = async { Ok(relay.run(stopped.clone()).await?) };
    let checking = async {
        let day = day::complete(&mut conn, "invoices").await?;
        day::delivered(&mut conn).await?;
        drop(stop);
        Ok(day)
    };
    let (consumed, relayed, day) = try_join!(consuming, relaying, checking)?;
    ensure!(consumed.drained && relayed.drained, "what was in flight could not be finished");
    let again = consumed.stats.duplicates;
    println!("billing: {} invoices of {} cents, as many as orders ({again} came again)", day.items, day.total_cents);
    Ok(())
}
