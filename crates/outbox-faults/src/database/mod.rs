//! The database of a run, reached without any code of the product but its migrations and its append.

mod mysql;
mod postgres;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use outbox::NewMessage;
use uuid::Uuid;

pub(crate) use mysql::create_database as create_mysql;

use crate::{
    events::{self, PROBE},
    verify::Committed,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Who owns a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) shard: i16,
    pub(crate) owner: Option<Uuid>,
    pub(crate) name: Option<String>,
}

/// The business: a counter per key whose row lock makes the writers of a key follow each other, and a record of every event, written in
/// the event's own transaction. After an error a connection is of no more use.
#[async_trait]
pub(crate) trait Business: Send {
    async fn begin(&mut self) -> Result<()>;

    /// Adds to the counter of a key, whose lock is held until the end of the transaction; the sum.
    async fn count_up(&mut self, key: &str, by: i64) -> Result<i64>;

    /// Appends with the product; the ids.
    async fn append(&mut self, messages: &[NewMessage]) -> Result<Vec<Uuid>>;

    /// Records events of a key with their places.
    async fn record(&mut self, key: &str, events: &[(Uuid, i64)]) -> Result<()>;

    async fn commit(&mut self) -> Result<()>;

    async fn roll_back(&mut self) -> Result<()>;
}

/// What an observer sees in the tables.
#[async_trait]
pub(crate) trait Tables: Send {
    /// Makes the outbox and the business tables with a counter for each key.
    async fn create(&mut self, keys: &[String]) -> Result<()>;

    /// Key and shard of every row of the outbox.
    async fn shards(&mut self) -> Result<HashMap<String, i16>>;

    /// The highest `seq` in the outbox; 0 when it is empty.
    async fn newest(&mut self) -> Result<i64>;

    /// Rows of the outbox up to this `seq`.
    async fn pending_up_to(&mut self, seq: i64) -> Result<u64>;

    /// Rows of the outbox with this aggregate type and event type.
    async fn pending(&mut self, aggregate_type: &str, event_type: &str) -> Result<u64>;

    /// Rows of the outbox with at least one failed attempt.
    async fn attempted(&mut self) -> Result<u64>;

    /// Ids of the dead letters.
    async fn dead_letters(&mut self) -> Result<Vec<Uuid>>;

    /// All lease rows with the names of their owners.
    async fn leases(&mut self) -> Result<Vec<LeaseRow>>;

    /// Every event that was committed, by the business record.
    async fn committed(&mut self) -> Result<Vec<Committed>>;
}

/// A connection of the run's own.
pub(crate) trait Connection: Business + Tables {}

impl<T: Business + Tables> Connection for T {}

/// Connects without any code of the product. The URL's scheme decides which database it is.
pub(crate) async fn connect(url: &str) -> Result<Box<dyn Connection>> {
    let connecting = async {
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("postgres") => Ok::<_, anyhow::Error>(Box::new(postgres::connect(url).await?) as Box<dyn Connection>),
            Some("mysql") => Ok(Box::new(mysql::connect(url).await?) as Box<dyn Connection>),
            _ => bail!("the scheme of the database's URL must be postgres or mysql"),
        }
    };
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.context("the database does not answer")?
}

/// The shard of every key, as the database computes it: from rows that are never committed.
pub(crate) async fn shards(url: &str, keys: &[String]) -> Result<HashMap<String, i16>> {
    let probe = |key: &String| NewMessage::new(events::aggregate_type(key), PROBE, Vec::new()).aggregate_id(key);
    let probes: Vec<NewMessage> = keys.iter().map(probe).collect();
    let mut conn = connect(url).await?;
    conn.begin().await?;
    conn.append(&probes).await?;
    let shards = conn.shards().await?;
    conn.roll_back().await?;
    Ok(shards)
}
