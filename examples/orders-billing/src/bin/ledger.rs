//! The ledger: an entry for each invoice that RabbitMQ delivers, on PostgreSQL. The end of the chain.
//!
//! ```text
//! docker compose up --detach --wait postgres kafka rabbitmq
//! export DATABASE_URL=postgres://postgres@127.0.0.1:25432/postgres KAFKA=127.0.0.1:29092 AMQP=amqp://guest:guest@127.0.0.1:25672/%2f
//! cargo run -p example-orders-billing --bin ledger
//! ```
//!
//! Start `orders` and `billing` too, before or after it; kill it and start it again if you like. It ends when a day's invoices are all
//! in the ledger and their sum is that of the orders.

#![allow(missing_docs, reason = "diesel::table! makes public items")]
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use anyhow::{Error, Result, ensure};
use diesel::{ExpressionMethods, insert_into};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use example_orders_billing::{
    day,
    events::{InvoiceIssued, InvoicesClosed},
    service::{Service, amqp},
};
use outbox::{AmqpSource, Delivery, Failure, Inbox, PostgresInbox, amqp::DeclaredQueue};
use tokio::{sync::oneshot, try_join};

/// Nothing but the inbox keeps an invoice from being entered twice.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS entries \
    (number bigserial PRIMARY KEY, day uuid NOT NULL, order_id bigint NOT NULL, total_cents bigint NOT NULL);";

diesel::table! {
    entries (number) {
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

async fn enter(conn: &mut AsyncPgConnection, invoice: InvoiceIssued, _: &Delivery) -> Result<(), Failure> {
    let InvoiceIssued { day, order_id, total_cents } = invoice;
    insert_into(entries::table)
        .values((entries::day.eq(day), entries::order_id.eq(order_id), entries::total_cents.eq(total_cents)))
        .execute(conn)
        .await?;
    Ok(())
}

async fn close(conn: &mut AsyncPgConnection, closed: InvoicesClosed, _: &Delivery) -> Result<(), Failure> {
    let InvoicesClosed { day, invoices, total_cents } = closed;
    insert_into(days::table)
        .values((days::day.eq(day), days::items.eq(invoices), days::total_cents.eq(total_cents)))
        .execute(conn)
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let (service, amqp) = (Service::new("ledger")?, amqp()?);
    let mut conn = service.migrate(&[TABLES, day::TABLE].concat()).await?;
    let name = service.named("ledger");
    let queue = DeclaredQueue::new(&name).bind(service.named("events"), "invoice.#");

    let inbox = Inbox::builder(PostgresInbox::connect(&service.url()).await?, &name)
        .on(enter)
        .on(close)
        .source(AmqpSource::new(&amqp, [queue])?)
        .build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let consuming = async {
        let stopped = async { drop(stopped.await) };
        Ok::<_, Error>(inbox.run(stopped).await?)
    };
    let checking = async {
        let day = day::complete(&mut conn, "entries").await?;
        drop(stop);
        Ok(day)
    };
    let (consumed, day) = try_join!(consuming, checking)?;
    ensure!(consumed.drained, "what was in flight could not be finished");
    let again = consumed.stats.duplicates;
    println!("ledger: {} entries of {} cents, as many as orders ({again} came again)", day.items, day.total_cents);
    Ok(())
}
