use anyhow::{Context, Result, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use outbox::PostgresInbox;
use outbox::inbox::{InboxTables, migrations};
use tokio_postgres::Client;

use super::{Database, unique};

diesel::table! {
    /// What handlers write: a row for each message.
    bench_effects (id) {
        /// Of the message.
        id -> Text,
        /// The message's ordering key.
        account -> Text,
    }
}

/// An inbox in a schema of its own, and the table of effects beside it. A database has one at a time.
#[derive(Debug, Clone)]
pub struct InboxPlace {
    url: String,
    tables: InboxTables,
}

impl InboxPlace {
    /// Creates the schema, the inbox's tables, and the table of effects.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn create(database: &Database, client: &Client) -> Result<Self> {
        let tables = InboxTables::new(Some(&unique("s")), "inbox_")?;
        let mut connection = AsyncPgConnection::establish(database.url()).await?;
        migrations::postgres::up(&mut connection, &tables, migrations::EXPECTED_INBOX_VERSION).await?;
        // no constraint: what is compared is the consumers, and an effect that is applied twice shall show in the count
        let effects =
            "DROP TABLE IF EXISTS bench_effects; CREATE TABLE bench_effects (id text NOT NULL, account text NOT NULL)";
        client.batch_execute(effects).await.context("the table of effects")?;
        Ok(Self { url: database.url().to_owned(), tables })
    }

    /// One that exists, for a process that was started with its schema.
    ///
    /// # Errors
    ///
    /// The name of the schema is no name.
    pub fn existing(url: &str, schema: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), tables: InboxTables::new(Some(schema), "inbox_")? })
    }

    /// Its schema.
    pub fn schema(&self) -> &str {
        self.tables.schema().unwrap_or("public")
    }

    /// URL of its database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The table of identities, quoted and qualified.
    pub fn identities(&self) -> String {
        self.tables.render("{{messages}}")
    }

    /// The storage of an inbox, with connections of its own.
    ///
    /// # Errors
    ///
    /// The URL is none.
    pub fn storage(&self) -> Result<PostgresInbox> {
        Ok(PostgresInbox::builder(&self.url).tables(self.tables.clone()).build()?)
    }

    /// Checks that every one of so many messages was applied once.
    ///
    /// # Errors
    ///
    /// It is not so, or the database cannot be reached.
    pub async fn holds(&self, client: &Client, messages: u64) -> Result<()> {
        let row = client.query_one("SELECT count(*), count(DISTINCT id) FROM bench_effects", &[]).await?;
        let (rows, ids): (i64, i64) = (row.get(0), row.get(1));
        let wanted = i64::try_from(messages)?;
        ensure!(rows == wanted && ids == wanted, "{rows} effects of {ids} messages, there are {messages} messages");
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn remove(self, client: &Client) -> Result<()> {
        let remove = format!("DROP SCHEMA {} CASCADE; DROP TABLE bench_effects", self.schema());
        client.batch_execute(&remove).await.context("the schema of an inbox")
    }
}
