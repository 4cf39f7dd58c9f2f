//! `outbox migrate`: the outbox tables.

use anyhow::Result;
use clap::{Args, Subcommand};
use outbox::{
    Tables,
    migrations::{self, AppliedMigration, Backend, EXPECTED_VERSION, MigrationStatus, PendingRows},
};
use time::format_description::well_known::Rfc3339;

use crate::{database::Database, output, secrets::Secrets, tables::TableArgs};

/// Create, remove, inspect or print the outbox tables
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
        /// Stop at this version
        #[arg(long, value_name = "VERSION", default_value_t = EXPECTED_VERSION)]
        to: i32,
    },
    /// Go back to a version; 0 removes all outbox tables
    Down {
        #[command(flatten)]
        target: Target,
        /// The version to go back to
        #[arg(long, value_name = "VERSION")]
        to: i32,
        /// Also delete messages that nobody has delivered, and dead letters
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
        /// The version to reach; below --from it prints the way back
        #[arg(long, value_name = "VERSION", default_value_t = EXPECTED_VERSION)]
        to: i32,
    },
}

#[derive(Args, Debug)]
struct Target {
    /// postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH
    #[arg(long, value_name = "URL", env = "OUTBOX__DATABASE", hide_env_values = true)]
    database: String,

    #[command(flatten)]
    tables: TableArgs,
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
                let (mut connection, tables) = target.connect(secrets).await?;
                report("applied", &connection.up(&tables, to).await?);
            }
            Action::Down { target, to, delete_rows } => {
                let (mut connection, tables) = target.connect(secrets).await?;
                let rows = if delete_rows { PendingRows::Delete } else { PendingRows::Keep };
                report("reverted", &connection.down(&tables, to, rows).await?);
            }
            Action::Status { target } => {
                let (mut connection, tables) = target.connect(secrets).await?;
                for migration in connection.status(&tables).await? {
                    output::line(status_line(&migration));
                }
            }
            Action::Print { target, from, to } => {
                let (database, tables) = target.read(secrets)?;
                let backend = match database {
                    Database::Postgres(_) => Backend::Postgres,
                    Database::Mysql(_) => Backend::Mysql,
                    Database::Sqlite(_) => Backend::Sqlite,
                };
                let print = if to >= from { migrations::print_up } else { migrations::print_down };
                output::line(print(backend, &tables, from, to)?.trim_end());
            }
        }
        Ok(())
    }
}

impl Target {
    fn read(&self, secrets: &mut Secrets) -> Result<(Database, Tables)> {
        let database = Database::parse(&self.database)?;
        database.collect_secrets(secrets);
        Ok((database, self.tables.tables()?))
    }

    async fn connect(&self, secrets: &mut Secrets) -> Result<(Connection, Tables)> {
        let (database, tables) = self.read(secrets)?;
        let connection = match &database {
            Database::Postgres(url) => {
                outbox::postgres::establish(url).await.map(|connection| Connection::Postgres(Box::new(connection)))?
            }
            Database::Mysql(url) => {
                outbox::mysql::establish(url).await.map(|connection| Connection::Mysql(Box::new(connection)))?
            }
            Database::Sqlite(path) => Connection::Sqlite(Box::new(outbox::sqlite::establish(path).await?)),
        };
        Ok((connection, tables))
    }
}

enum Connection {
    Postgres(Box<diesel_async::AsyncPgConnection>),
    Mysql(Box<diesel_async::AsyncMysqlConnection>),
    Sqlite(Box<diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>>),
}

impl Connection {
    async fn up(&mut self, tables: &Tables, to: i32) -> Result<Vec<AppliedMigration>> {
        Ok(match self {
            Self::Postgres(connection) => migrations::postgres::up(connection, tables, to).await?,
            Self::Mysql(connection) => migrations::mysql::up(connection, tables, to).await?,
            Self::Sqlite(connection) => migrations::sqlite::up(connection, tables, to).await?,
        })
    }

    async fn down(&mut self, tables: &Tables, to: i32, rows: PendingRows) -> Result<Vec<AppliedMigration>> {
        Ok(match self {
            Self::Postgres(connection) => migrations::postgres::down(connection, tables, to, rows).await?,
            Self::Mysql(connection) => migrations::mysql::down(connection, tables, to, rows).await?,
            Self::Sqlite(connection) => migrations::sqlite::down(connection, tables, to, rows).await?,
        })
    }

    async fn status(&mut self, tables: &Tables) -> Result<Vec<MigrationStatus>> {
        Ok(match self {
            Self::Postgres(connection) => migrations::postgres::status(connection, tables).await?,
            Self::Mysql(connection) => migrations::mysql::status(connection, tables).await?,
            Self::Sqlite(connection) => migrations::sqlite::status(connection, tables).await?,
        })
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

fn status_line(migration: &MigrationStatus) -> String {
    let state = match migration.applied_at.map(|time| time.format(&Rfc3339)) {
        Some(Ok(time)) => format!("applied {time}"),
        Some(Err(_)) => "applied".to_owned(),
        None => "pending".to_owned(),
    };
    let unfinished = migration.unfinished.map(|at| format!(", {at}")).unwrap_or_default();
    let known = if migration.version > EXPECTED_VERSION { " (made by a newer program)" } else { "" };
    format!("{:04} {}  {state}{unfinished}{known}", migration.version, migration.name)
}
