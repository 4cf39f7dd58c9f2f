//! A database, a topic, an exchange and a queue of one test, and programs that run among them.

mod program;

use std::time::{Duration, Instant};

use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use tokio::time::sleep;
use uuid::Uuid;

pub(crate) use program::Program;

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Surroundings {
    server: String,
    database: String,
    prefix: String,
    kafka: String,
    amqp: String,
    orders: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Surroundings {
    pub(crate) async fn make(orders: i64) -> Self {
        let unique = Uuid::now_v7().simple().to_string();
        let surroundings = Self {
            server: variable("OUTBOX_TEST_POSTGRES_URL"),
            database: format!("chain_{unique}"),
            prefix: format!("chain-{unique}-"),
            kafka: variable("OUTBOX_TEST_KAFKA"),
            amqp: variable("OUTBOX_TEST_AMQP"),
            orders: orders.to_string(),
        };
        surroundings.on_server("CREATE DATABASE").await;
        surroundings
    }

    /// Starts one of the three programs.
    pub(crate) fn start(&self, name: &'static str) -> Program {
        let url = self.url();
        let variables = [
            ("DATABASE_URL", &url),
            ("KAFKA", &self.kafka),
            ("AMQP", &self.amqp),
            ("PREFIX", &self.prefix),
            ("ORDERS", &self.orders),
        ];
        Program::start(name, &variables)
    }

    /// A number that a query selects.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let numbered = sql_query(format!("SELECT ({sql}) AS number"));
        let row: Row =
            numbered.get_result(&mut connect(&self.url()).await).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.number
    }

    /// Waits until a table is there and has more rows than so many.
    pub(crate) async fn until_more(&self, table: &str, rows: i64) {
        let deadline = Instant::now() + DEADLINE;
        let is_there = format!("SELECT count(to_regclass('{table}'))");
        let count = format!("SELECT count(*) FROM {table}");
        while self.number(&is_there).await == 0 || self.number(&count).await <= rows {
            assert!(Instant::now() < deadline, "{table} has no more rows than {rows} after {} s", DEADLINE.as_secs());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Holds what a statement locks until the connection is dropped.
    pub(crate) async fn hold(&self, sql: &str) -> AsyncPgConnection {
        let mut conn = connect(&self.url()).await;
        conn.batch_execute(&format!("BEGIN; {sql}")).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        conn
    }

    /// Removes what was made on the services.
    pub(crate) async fn remove(self) {
        self.on_server("DROP DATABASE").await;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.kafka).create().expect("a client");
        let topic = format!("{}order", self.prefix);
        admin.delete_topics(&[&topic], &AdminOptions::new()).await.expect("Kafka deletes the topic");
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await.expect("RabbitMQ");
        let channel = connection.create_channel().await.expect("a channel");
        let (queue, exchange) = (format!("{}ledger", self.prefix), format!("{}events", self.prefix));
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("the queue is deleted");
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("so is the exchange");
        connection.close(200, "bye".into()).await.expect("the connection closes");
    }

    async fn on_server(&self, what: &str) {
        let sql = format!("{what} {}", self.database);
        connect(&self.server).await.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("OUTBOX_TEST_POSTGRES_URL names a database");
        format!("{server}/{}", self.database)
    }
}

async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.expect("PostgreSQL answers")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, or `cargo xtask services up` and export what it prints")
    })
}
