use anyhow::{Context, Result};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use outbox::{PostgresStorage, Tables, migrations};
use tokio_postgres::Client;

use super::{Database, Topic, unique};
use crate::workload::Workload;

/// An outbox in a schema of its own.
#[derive(Debug, Clone)]
pub struct Outbox {
    url: String,
    tables: Tables,
}

impl Outbox {
    /// Creates the schema and its tables.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn create(database: &Database) -> Result<Self> {
        let tables = Tables::new(Some(&unique("s")), "outbox_")?;
        let mut connection = AsyncPgConnection::establish(database.url()).await?;
        migrations::postgres::up(&mut connection, &tables, migrations::EXPECTED_VERSION).await?;
        Ok(Self { url: database.url().to_owned(), tables })
    }

    /// One that exists, for a process that was started with its schema.
    ///
    /// # Errors
    ///
    /// The name of the schema is no name.
    pub fn existing(url: &str, schema: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), tables: Tables::new(Some(schema), "outbox_")? })
    }

    /// The names of its tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Its schema.
    pub fn schema(&self) -> &str {
        self.tables.schema().unwrap_or("public")
    }

    /// URL of its database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The storage of a relay, with connections of its own. `listen`: woken by NOTIFY.
    ///
    /// # Errors
    ///
    /// The URL is none.
    pub fn storage(&self, listen: bool) -> Result<PostgresStorage> {
        Ok(PostgresStorage::builder(&self.url).tables(self.tables.clone()).listen(listen).build()?)
    }

    /// Appends a workload with one statement, as a plain INSERT of another language would, and leaves the table as
    /// autovacuum would leave it after a while.
    ///
    /// # Errors
    ///
    /// The database refuses.
    pub async fn seed(&self, client: &Client, workload: &Workload, topic: &Topic) -> Result<()> {
        let table = self.tables.messages();
        fill(client, table, &workload.insert(table, topic.name())).await
    }

    /// Rows that are pending.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn pending(&self, client: &Client) -> Result<u64> {
        let row = client.query_one(&format!("SELECT count(*) FROM {}", self.tables.messages()), &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }

    /// Drops the schema.
    ///
    /// # Errors
    ///
    /// The database refuses.
    pub async fn remove(self, client: &Client) -> Result<()> {
        client.batch_execute(&format!("DROP SCHEMA \"{}\" CASCADE", self.schema())).await.context("DROP SCHEMA")
    }
}

/// Fills a table with one statement and vacuums it. The checkpoint comes first, so that no page of the table is logged in full
/// when its rows are removed.
///
/// # Errors
///
/// The database refuses.
pub async fn fill(client: &Client, table: &str, insert: &str) -> Result<()> {
    client.batch_execute("CHECKPOINT").await.context("CHECKPOINT")?;
    client.batch_execute(insert).await.context("seeding")?;
    client.batch_execute(&format!("VACUUM (ANALYZE) {table}")).await.context("VACUUM")
}
