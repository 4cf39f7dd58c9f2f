use clap::Args;
use outbox::{InvalidTables, Tables};

/// Where the outbox tables are.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Tables")]
pub(crate) struct TableArgs {
    /// Schema of the outbox tables (PostgreSQL only) [default: found by the search path]
    #[arg(long, env = "OUTBOX__SCHEMA", value_name = "NAME")]
    schema: Option<String>,

    /// What the names of the outbox tables start with
    #[arg(long, env = "OUTBOX__TABLE_PREFIX", value_name = "PREFIX", default_value = outbox::DEFAULT_TABLE_PREFIX)]
    table_prefix: String,
}

impl TableArgs {
    /// The table names.
    ///
    /// # Errors
    ///
    /// When a name is not plain or too long.
    pub(crate) fn tables(&self) -> Result<Tables, InvalidTables> {
        Tables::new(self.schema.as_deref(), &self.table_prefix)
    }
}
