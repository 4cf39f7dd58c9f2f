//! An orders service on SQLite with the relay in the same program.
//!
//! ```text
//! docker compose up --detach --wait kafka
//! DATABASE=orders.db KAFKA=127.0.0.1:29092 cargo run -p example-sqlite-kafka
//! ```
//!
//! It makes its tables and its topic, places an order a second until Ctrl-C, and hands every `order.placed` to the topic `order`.

#![allow(missing_docs, reason = "diesel::table! makes public items")]

use std::{env, time::Duration};

use anyhow::{Context, Result};
use diesel::{ExpressionMethods, SqliteConnection, insert_into};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection, sync_connection_wrapper::SyncConnectionWrapper};
use outbox::{Event, KafkaTransport, Relay, SqliteOutbox, SqliteStorage, Tables, migrations, sqlite};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};
use serde::Serialize;
use tokio::{signal::ctrl_c, time::interval};

diesel::table! {
    shop_orders (id) {
        id -> BigInt,
        total_cents -> BigInt,
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

#[tokio::main]
async fn main() -> Result<()> {
    let file = env::var("DATABASE").context("set DATABASE to a file, for example orders.db")?;
    let brokers = env::var("KAFKA").context("set KAFKA, for example 127.0.0.1:29092")?;
    let mut conn = sqlite::establish(&file).await?;
    migrations::sqlite::up(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION).await?;
    conn.batch_execute("CREATE TABLE IF NOT EXISTS shop_orders (id integer PRIMARY KEY, total_cents bigint NOT NULL)")
        .await?;

    make_topic(&brokers, OrderPlaced::AGGREGATE_TYPE).await?;

    let relay = Relay::builder(SqliteStorage::connect(&file).await?, KafkaTransport::connect(&brokers)?).build()?;
    let wake = relay.handle();
    let running = tokio::spawn(relay.run(async {
        let _ = ctrl_c().await;
    }));

    let outbox = SqliteOutbox::default();
    let mut every_second = interval(Duration::from_secs(1));
    while !running.is_finished() {
        tokio::select! {
            _ = every_second.tick() => {}
            stopped = ctrl_c() => {
                stopped?;
                break;
            }
        }
        place_order(&mut conn, &outbox, 1250).await?;
        wake.nudge(); // after the commit: the relay reads at once instead of at its next poll
    }
    let report = running.await??;
    anyhow::ensure!(report.drained, "the relay could not finish what was in flight");
    Ok(())
}

/// The order and its event commit together, or neither does. `BEGIN IMMEDIATE` waits for other writers at the start, where
/// waiting works; a transaction that begins with a read cannot always become a writer.
async fn place_order(conn: &mut Connection, outbox: &SqliteOutbox, total_cents: i64) -> Result<()> {
    conn.immediate_transaction(async |conn| {
        let order_id: i64 = insert_into(shop_orders::table)
            .values(shop_orders::total_cents.eq(total_cents))
            .returning(shop_orders::id)
            .get_result(conn)
            .await?;
        outbox.append(conn, &OrderPlaced { order_id, total_cents }).await?;
        Ok(())
    })
    .await
}

/// Brokers in production do not create topics by themselves, and neither does the relay.
async fn make_topic(brokers: &str, name: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, 12, TopicReplication::Fixed(-1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => anyhow::bail!("the broker refuses to make topic {topic}: {code}"),
        }
    }
    Ok(())
}
