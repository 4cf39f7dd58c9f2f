//! The demo's business: orders, changed in transactions that append an event for each change.

mod mysql;
mod postgres;
mod sql;
mod sqlite;

use std::{path::Path, sync::Arc};

use anyhow::Result;
use async_trait::async_trait;
use outbox::{Storage, Tables};
use uuid::Uuid;

use super::verify::Recorded;
use crate::database::Database;

/// A database with the outbox, the orders, and a record of all committed changes, under a table prefix of its own.
#[async_trait]
pub(super) trait Shop: Send + Sync {
    /// The outbox, for the relay.
    async fn storage(&self) -> Result<Arc<dyn Storage>>;

    /// A writer with a connection of its own.
    async fn writer(&self) -> Result<Box<dyn Writer>>;

    /// All committed changes, by the database's own record.
    async fn record(&self) -> Result<Vec<Recorded>>;

    /// Removes the demo's tables.
    async fn remove(&self) -> Result<()>;
}

/// A part of the service that changes orders.
#[async_trait]
pub(super) trait Writer: Send {
    /// Changes these orders in one transaction and appends an event for each. `orders` are sorted, so that two writers
    /// cannot deadlock. With `roll_back` everything is done and then rolled back, as a service does that finds a
    /// business rule broken at the end. Returns the ids of the appended messages.
    ///
    /// # Cancellation
    ///
    /// The connection may be left inside of a transaction: drop the writer too.
    async fn change(&mut self, orders: &[i64], roll_back: bool) -> Result<Vec<Uuid>>;
}

/// Makes the tables of a demo. `prefix` is unique to the run.
pub(super) async fn open(database: &Database, prefix: &str) -> Result<Arc<dyn Shop>> {
    let tables = Tables::new(None, &format!("{prefix}outbox_"))?;
    Ok(match database {
        Database::Postgres(url) => Arc::new(postgres::PostgresShop::create(url, prefix, tables).await?),
        Database::Mysql(url) => Arc::new(mysql::MysqlShop::create(url, prefix, tables).await?),
        Database::Sqlite(path) => Arc::new(sqlite::SqliteShop::create(Path::new(path), prefix, tables).await?),
    })
}

/// How a transaction ended early.
enum Stop {
    /// The demo's 10 %.
    OnPurpose(Vec<Uuid>),
    Failed(anyhow::Error),
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<outbox::AppendError> for Stop {
    fn from(error: outbox::AppendError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<outbox::InvalidMessage> for Stop {
    fn from(error: outbox::InvalidMessage) -> Self {
        Self::Failed(error.into())
    }
}

/// The appended ids, whether the transaction committed or was rolled back on purpose.
fn ended(result: Result<Vec<Uuid>, Stop>) -> Result<Vec<Uuid>> {
    match result {
        Ok(ids) | Err(Stop::OnPurpose(ids)) => Ok(ids),
        Err(Stop::Failed(error)) => Err(error.context("a writer's transaction failed")),
    }
}
