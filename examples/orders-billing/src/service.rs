//! What a service finds in its environment, and its database.

use std::env;

use anyhow::{Context, Result};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use outbox::inbox::{self, InboxTables};
use outbox::{Tables, migrations};

/// A service by its name.
///
/// Services have a database each. So that one is enough to try this, these three have a schema each: the `search_path` of their
/// connections leads there, and nothing else knows about it.
pub struct Service {
    name: &'static str,
    database: String,
    prefix: String,
}

impl Service {
    /// Reads `DATABASE_URL`, and `PREFIX` when it is set.
    ///
    /// # Errors
    ///
    /// `DATABASE_URL` is not set.
    pub fn new(name: &'static str) -> Result<Self> {
        let database = required("DATABASE_URL", "postgres://postgres@127.0.0.1:25432/postgres")?;
        Ok(Self { name, database, prefix: env::var("PREFIX").unwrap_or_else(|_| "shop-".to_owned()) })
    }

    /// The URL of the service's own database.
    pub fn url(&self) -> String {
        let separator = if self.database.contains('?') { '&' } else { '?' };
        format!("{}{separator}options=-csearch_path%3D{}", self.database, self.name)
    }

    /// What something of the service is called on a broker that others use too.
    pub fn named(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    /// Makes the tables of outbox and inbox, and the service's own, which exist or not. The connection is the service's.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, or refuses.
    pub async fn migrate(&self, tables: &str) -> Result<AsyncPgConnection> {
        let mut conn = AsyncPgConnection::establish(&self.url()).await.context("the database does not answer")?;
        conn.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", self.name)).await?;
        migrations::postgres::up(&mut conn, &Tables::default(), migrations::EXPECTED_VERSION).await?;
        let version = inbox::migrations::EXPECTED_INBOX_VERSION;
        inbox::migrations::postgres::up(&mut conn, &InboxTables::default(), version).await?;
        conn.batch_execute(tables).await?;
        Ok(conn)
    }
}

/// Kafka's address.
///
/// # Errors
///
/// `KAFKA` is not set.
pub fn kafka() -> Result<String> {
    required("KAFKA", "127.0.0.1:29092")
}

/// RabbitMQ's address.
///
/// # Errors
///
/// `AMQP` is not set.
pub fn amqp() -> Result<String> {
    required("AMQP", "amqp://guest:guest@127.0.0.1:25672/%2f")
}

fn required(variable: &str, example: &str) -> Result<String> {
    env::var(variable).with_context(|| format!("set {variable}, for example {example}"))
}
