//! What the benchmarks run on: a database of their own, outboxes in it, and topics.

mod counters;
mod database;
mod outbox;
mod processes;
mod topic;

pub use counters::{Counters, RowCounts};
pub use database::Database;
pub use outbox::{Outbox, fill};
pub use processes::{machine_cpu, process_cpu, resident_peak_bytes};
pub use topic::{Kafka, Topic};

use anyhow::{Context, Result};

/// Where PostgreSQL and Kafka are.
#[derive(Debug, Clone)]
pub struct Services {
    /// A superuser's URL of a scratch PostgreSQL.
    pub postgres: String,
    /// The cluster.
    pub kafka: Kafka,
}

impl Services {
    /// Reads `OUTBOX_TEST_POSTGRES_URL` and `OUTBOX_TEST_KAFKA`. `properties` are librdkafka's.
    ///
    /// # Errors
    ///
    /// One of them is not set.
    pub fn from_env(properties: Vec<(String, String)>) -> Result<Self> {
        let get = |name: &str| {
            std::env::var(name)
                .with_context(|| format!("{name} is not set: run `cargo xtask bench` or `cargo xtask test`"))
        };
        Ok(Self {
            postgres: get("OUTBOX_TEST_POSTGRES_URL")?,
            kafka: Kafka { brokers: get("OUTBOX_TEST_KAFKA")?, properties },
        })
    }
}

/// A name that nothing else on the servers has.
pub(crate) fn unique(what: &str) -> String {
    format!("bench_{what}_{}", uuid::Uuid::new_v4().simple())
}
