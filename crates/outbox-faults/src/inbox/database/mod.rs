//! The database of a run: what is expected, what handlers change, and what became of it, in SQL and without any code of the product but
//! its migrations.

mod findings;
mod mysql;
mod postgres;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;

pub(super) use findings::{Finding, findings};

use super::stream::Message;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connection to the tables of a run.
#[async_trait]
pub(super) trait Tables: Send {
    /// Makes the inbox and the tables that handlers change, with a counter for each key, and writes down what is expected.
    async fn create(&mut self, messages: &[Message]) -> Result<()>;

    /// One number.
    async fn number(&mut self, sql: &str) -> Result<i64>;

    /// A column `what` of texts.
    async fn texts(&mut self, sql: &str) -> Result<Vec<String>>;

    /// Deadlocks that the server ended so far.
    async fn deadlocks(&mut self) -> Result<i64>;
}

/// Connects. The URL's scheme decides which database it is.
pub(super) async fn connect(url: &str) -> Result<Box<dyn Tables>> {
    let connecting = async {
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("postgres") => Ok::<_, anyhow::Error>(Box::new(postgres::connect(url).await?) as Box<dyn Tables>),
            Some("mysql") => Ok(Box::new(mysql::connect(url).await?) as Box<dyn Tables>),
            _ => bail!("the scheme of the database's URL must be postgres or mysql"),
        }
    };
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.context("the database does not answer")?
}

/// Messages that were applied.
pub(super) async fn applied(url: &str) -> Result<u64> {
    let applied = connect(url).await?.number("SELECT count(*) AS n FROM applied").await?;
    Ok(u64::try_from(applied)?)
}

/// Messages that are held, and keys that are parked.
pub(super) async fn held(url: &str) -> Result<u64> {
    let held = "SELECT (SELECT count(*) FROM inbox_held) + (SELECT count(*) FROM inbox_parked_keys) AS n";
    Ok(u64::try_from(connect(url).await?.number(held).await?)?)
}
