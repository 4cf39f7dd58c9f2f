//! The demo's business: orders, changed in transactions that append an event for each change.

mod mysql;
mod postgres;
mod sql;
mod sqlite;

use std::{path::Path, sync::Arc};

use anyhow::Result;
use async_trait::async_trait;
use outbox::{
    InboxConfig, Storage, Tables,
    inbox::{InboxTables, ports::Source},
};
use uuid::Uuid;

use super::{
    books::{self, Account, Books},
    consuming::AnyInbox,
    verify::Recorded,
};
use crate::database::Database;

/// A database with the outbox, the orders, a record of all committed changes, the inbox, and the balances that the inbox's handler makes of
/// the events, under a table prefix of its own.
#[async_trait]
pub(super) trait Shop: Send + Sync {
    /// The outbox, for the relay.
    async fn storage(&self) -> Result<Arc<dyn Storage>>;

    /// A writer with a connection of its own.
    async fn writer(&self) -> Result<Box<dyn Writer>>;

    /// All committed changes, by the database's own record.
    async fn record(&self) -> Result<Vec<Recorded>>;

    /// The inbox of this consumer, whose handler adds the amount of each event to the balance of its account.
    async fn inbox(&self, consumer: &str, config: InboxConfig, source: Arc<dyn Source>) -> Result<AnyInbox>;

    /// A look at the balances with a connection of its own.
    async fn auditor(&self) -> Result<Box<dyn Auditor>>;

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

/// Looks at the balances by SQL of its own: it shares nothing with the inbox but the table that the handler writes to.
#[async_trait]
pub(super) trait Auditor: Send {
    /// How many events the balances hold.
    ///
    /// # Cancellation
    ///
    /// Drop the auditor too.
    async fn applied(&mut self) -> Result<u64>;

    /// The balances, and what they must be by the record of the committed changes.
    async fn accounts(&mut self) -> Result<Accounts>;
}

/// What an audit compares.
pub(super) struct Accounts {
    /// By the record of the committed changes.
    expected: Vec<Account>,
    balances: Vec<Account>,
}

impl Accounts {
    pub(super) fn audit(&self) -> Books {
        books::audit(&self.expected, &self.balances)
    }
}

/// Makes the tables of a demo. `prefix` is unique to the run.
pub(super) async fn open(database: &Database, prefix: &str) -> Result<Arc<dyn Shop>> {
    let names = Names {
        prefix: prefix.to_owned(),
        outbox: Tables::new(None, &format!("{prefix}outbox_"))?,
        inbox: InboxTables::new(None, &format!("{prefix}inbox_"))?,
    };
    Ok(match database {
        Database::Postgres(url) => Arc::new(postgres::PostgresShop::create(url, names).await?),
        Database::Mysql(url) => Arc::new(mysql::MysqlShop::create(url, names).await?),
        Database::Sqlite(path) => Arc::new(sqlite::SqliteShop::create(Path::new(path), names).await?),
    })
}

/// How the demo's tables are called.
struct Names {
    /// Of the business's tables.
    prefix: String,
    outbox: Tables,
    inbox: InboxTables,
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
