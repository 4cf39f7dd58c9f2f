use clap::Args;
use outbox::{InvalidTables, Tables};

const PREFIX_VARIABLE: &str = "OUTBOX__TABLE_PREFIX";

/// Where the outbox tables are.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Tables")]
pub(crate) struct TableArgs {
    /// Schema of the tables (PostgreSQL only) [default: found by the search path]
    #[arg(long, env = "OUTBOX__SCHEMA", value_name = "NAME")]
    schema: Option<String>,

    /// What the names of the outbox tables start with
    #[arg(long, env = PREFIX_VARIABLE, value_name = "PREFIX", default_value = outbox::DEFAULT_TABLE_PREFIX)]
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

    /// Whether the prefix was given on the command line.
    pub(crate) fn has_prefix_of_a_flag(&self) -> bool {
        let inherited = std::env::var(PREFIX_VARIABLE).unwrap_or_else(|_| outbox::DEFAULT_TABLE_PREFIX.to_owned());
        self.table_prefix != inherited
    }
}
