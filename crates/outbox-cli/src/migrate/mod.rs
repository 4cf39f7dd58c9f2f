//! `outbox migrate`: the tables of the outbox, or of the inbox.

mod schema;
mod target;

use anyhow::Result;
use clap::{Args, Subcommand};
use outbox::migrations::{AppliedMigration, Backend, MigrationStatus, PendingRows};
use time::format_description::well_known::Rfc3339;

use self::target::Target;
use crate::{database::Database, output, secrets::Secrets};

/// Create, remove, inspect or print the outbox tables, or with --inbox those of the inbox
#[derive(Args, Debug)]
pub(crate) struct Migrate {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Bring the tables to a version, the newest unless told otherwise
    Up {
        #[command(flatten)]
        target: Target,
        /// Stop at this version [default: the newest]
        #[arg(long, value_name = "VERSION")]
        to: Option<i32>,
    },
    /// Go back to a version; 0 removes all tables
    Down {
        #[command(flatten)]
        target: Target,
        /// The version to go back to
        #[arg(long, value_name = "VERSION")]
        to: i32,
        /// Also delete messages that nobody has delivered or processed, and dead letters
        #[arg(long)]
        delete_rows: bool,
    },
    /// Say which migrations are applied
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Print the SQL, for people who run migrations with another tool; needs no connection
    Print {
        #[command(flatten)]
        target: Target,
        /// The version that the tables have, 0: there are none
        #[arg(long, value_name = "VERSION", default_value_t = 0)]
        from: i32,
        /// The version to reach; below --from it prints the way back [default: the newest]
        #[arg(long, value_name = "VERSION")]
        to: Option<i32>,
    },
}

impl Migrate {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or refuses, or the tables hold what would be lost.
    ///
    /// # Cancellation
    ///
    /// Each migration is one transaction; on MySQL it may stop between two statements, and the next `up` or `down` goes on there.
    pub(crate) async fn run(self, secrets: &mut Secrets) -> Result<()> {
        match self.action {
            Action::Up { target, to } => {
                let (mut connection, schema) = target.connect_or_create(secrets).await?;
                report("applied", &schema.up(&mut connection, to.unwrap_or(schema.newest())).await?);
            }
            Action::Down { target, to, delete_rows } => {
                let (mut connection, schema) = target.connect(secrets).await?;
                let rows = if delete_rows { PendingRows::Delete } else { PendingRows::Keep };
                report("reverted", &schema.down(&mut connection, to, rows).await?);
            }
            Action::Status { target } => {
                let (mut connection, schema) = target.connect(secrets).await?;
                for migration in schema.status(&mut connection).await? {
                    output::line(status_line(&migration, schema.newest()));
                }
            }
            Action::Print { target, from, to } => {
                let (database, schema) = target.read(secrets)?;
                let backend = match database {
                    Database::Postgres(_) => Backend::Postgres,
                    Database::Mysql(_) => Backend::Mysql,
                    Database::Sqlite(_) => Backend::Sqlite,
                };
                output::line(schema.print(backend, from, to.unwrap_or(schema.newest()))?.trim_end());
            }
        }
        Ok(())
    }
}

fn report(what: &str, migrations: &[AppliedMigration]) {
    for migration in migrations {
        output::line(format!("{what} {:04} {}", migration.version, migration.name));
    }
    if migrations.is_empty() {
        output::line("nothing to do");
    }
}

fn status_line(migration: &MigrationStatus, newest: i32) -> String {
    let state = match migration.applied_at.map(|time| time.format(&Rfc3339)) {
        Some(Ok(time)) => format!("applied {time}"),
        Some(Err(_)) => "applied".to_owned(),
        None => "pending".to_owned(),
    };
    let unfinished = migration.unfinished.map(|at| format!(", {at}")).unwrap_or_default();
    let known = if migration.version > newest { " (made by a newer program)" } else { "" };
    format!("{:04} {}  {state}{unfinished}{known}", migration.version, migration.name)
}
