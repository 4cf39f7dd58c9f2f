use anyhow::{Result, bail};
use clap::Args;
use outbox::inbox::{self, InboxTables};

use super::schema::{Connection, Schema};
use crate::{database::Database, secrets::Secrets, tables::TableArgs};

/// Which tables of which database.
#[derive(Args, Debug)]
pub(super) struct Target {
    /// postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH
    #[arg(long, value_name = "URL", env = "OUTBOX__DATABASE", hide_env_values = true)]
    database: String,

    /// The tables of the inbox, which consumers need, instead of those of the outbox, which writers and relays need
    #[arg(long)]
    inbox: bool,

    #[command(flatten)]
    tables: TableArgs,

    /// What the names of the inbox tables start with; must differ from that of the outbox tables
    #[arg(
        long,
        env = "OUTBOX__INBOX_TABLE_PREFIX",
        value_name = "PREFIX",
        default_value = inbox::DEFAULT_TABLE_PREFIX,
        help_heading = "Tables"
    )]
    inbox_table_prefix: String,
}

impl Target {
    /// The database and the tables.
    ///
    /// # Errors
    ///
    /// When a value cannot be used.
    pub(super) fn read(&self, secrets: &mut Secrets) -> Result<(Database, Schema)> {
        let database = Database::parse(&self.database)?;
        database.collect_secrets(secrets);
        Ok((database, self.schema()?))
    }

    /// The same, connected to a database that is there: SQLite would make the file of a mistyped path.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, or the database is not there or cannot be reached.
    pub(super) async fn connect(&self, secrets: &mut Secrets) -> Result<(Connection, Schema)> {
        let (database, schema) = self.read(secrets)?;
        if let Database::Sqlite(path) = &database
            && !path.exists()
        {
            bail!("--database: there is no file {}; `outbox migrate up` makes one", path.display());
        }
        Ok((Connection::establish(&database).await?, schema))
    }

    /// The same, connected; SQLite makes a file that is not there.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, or the database cannot be reached.
    pub(super) async fn connect_or_create(&self, secrets: &mut Secrets) -> Result<(Connection, Schema)> {
        let (database, schema) = self.read(secrets)?;
        Ok((Connection::establish(&database).await?, schema))
    }

    fn schema(&self) -> Result<Schema> {
        let outbox = self.tables.tables()?;
        if !self.inbox {
            return Ok(Schema::Outbox(outbox));
        }
        if self.tables.has_prefix_of_a_flag() {
            bail!("--table-prefix: it is the prefix of the outbox tables; with --inbox say --inbox-table-prefix");
        }
        // Both have a table of messages, and one of versions.
        if self.inbox_table_prefix == outbox.prefix() {
            bail!(
                "--inbox-table-prefix is {:?}, as that of the outbox tables: it must be another",
                self.inbox_table_prefix
            );
        }
        Ok(Schema::Inbox(InboxTables::new(outbox.schema(), &self.inbox_table_prefix)?))
    }
}
