//! What the benchmarks run on: databases of their own, outboxes and inboxes in them, topics and queues.

mod counters;
mod database;
mod inbox;
mod mysql;
mod mysql_counters;
mod outbox;
mod processes;
mod queue;
mod topic;

pub use counters::{Counters, RowCounts};
pub use database::Database;
pub use inbox::InboxPlace;
pub(crate) use inbox::bench_effects;
pub use mysql::MysqlDatabase;
pub use mysql_counters::MysqlCounters;
pub use outbox::{Outbox, fill};
pub use processes::{machine_cpu, process_cpu, resident_peak_bytes};
pub use queue::Queue;
pub use topic::{Kafka, Topic};

use anyhow::{Context, Result};

/// Where the services are.
#[derive(Debug, Clone)]
pub struct Services {
    /// A superuser's URL of a scratch PostgreSQL.
    pub postgres: String,
    /// The cluster.
    pub kafka: Kafka,
}

impl Services {
    /// Reads `OUTBOX_TEST_POSTGRES_URL` and `OUTBOX_TEST_KAFKA`, which every measurement needs. `properties` are librdkafka's.
    ///
    /// # Errors
    ///
    /// One of them is not set.
    pub fn from_env(properties: Vec<(String, String)>) -> Result<Self> {
        let kafka = Kafka { brokers: variable("OUTBOX_TEST_KAFKA")?, properties };
        Ok(Self { postgres: variable("OUTBOX_TEST_POSTGRES_URL")?, kafka })
    }

    /// A superuser's URL of a scratch MySQL or MariaDB, from `OUTBOX_TEST_MYSQL_URL`.
    ///
    /// # Errors
    ///
    /// It is not set.
    pub fn mysql(&self) -> Result<String> {
        variable("OUTBOX_TEST_MYSQL_URL")
    }

    /// The URI of a RabbitMQ, from `OUTBOX_TEST_AMQP`.
    ///
    /// # Errors
    ///
    /// It is not set.
    pub fn rabbitmq(&self) -> Result<String> {
        variable("OUTBOX_TEST_AMQP")
    }
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run `cargo xtask bench` or `cargo xtask test`"))
}

/// A name that nothing else on the servers has.
pub(crate) fn unique(what: &str) -> String {
    format!("bench_{what}_{}", uuid::Uuid::new_v4().simple())
}
