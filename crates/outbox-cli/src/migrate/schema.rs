use anyhow::Result;
use diesel::SqliteConnection;
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection, sync_connection_wrapper::SyncConnectionWrapper};
use outbox::{
    Tables,
    inbox::{InboxTables, migrations as inbox},
    migrations::{self as outbox_migrations, AppliedMigration, Backend, MigrationStatus, PendingRows},
};

use crate::database::Database;

/// Tables that are migrated together.
pub(super) enum Schema {
    /// What writers and relays need.
    Outbox(Tables),
    /// What consumers need.
    Inbox(InboxTables),
}

/// An open connection.
pub(super) enum Connection {
    Postgres(Box<AsyncPgConnection>),
    Mysql(Box<AsyncMysqlConnection>),
    Sqlite(Box<SyncConnectionWrapper<SqliteConnection>>),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub(super) async fn establish(database: &Database) -> Result<Self> {
        Ok(match database {
            Database::Postgres(url) => Self::Postgres(Box::new(outbox::postgres::establish(url).await?)),
            Database::Mysql(url) => Self::Mysql(Box::new(outbox::mysql::establish(url).await?)),
            Database::Sqlite(path) => Self::Sqlite(Box::new(outbox::sqlite::establish(path).await?)),
        })
    }
}

/// Calls a function of the migrations that this schema and this connection are for.
macro_rules! on {
    ($schema:expr, $connection:expr, $function:ident($($argument:expr),*)) => {
        match ($schema, $connection) {
            (Schema::Outbox(tables), Connection::Postgres(conn)) => {
                outbox_migrations::postgres::$function(conn, tables $(, $argument)*).await?
            }
            (Schema::Outbox(tables), Connection::Mysql(conn)) => {
                outbox_migrations::mysql::$function(conn, tables $(, $argument)*).await?
            }
            (Schema::Outbox(tables), Connection::Sqlite(conn)) => {
                outbox_migrations::sqlite::$function(conn, tables $(, $argument)*).await?
            }
            (Schema::Inbox(tables), Connection::Postgres(conn)) => {
                inbox::postgres::$function(conn, tables $(, $argument)*).await?
            }
            (Schema::Inbox(tables), Connection::Mysql(conn)) => {
                inbox::mysql::$function(conn, tables $(, $argument)*).await?
            }
            (Schema::Inbox(tables), Connection::Sqlite(conn)) => {
                inbox::sqlite::$function(conn, tables $(, $argument)*).await?
            }
        }
    };
}

impl Schema {
    /// The version that this program works with.
    pub(super) fn newest(&self) -> i32 {
        match self {
            Self::Outbox(_) => outbox_migrations::EXPECTED_VERSION,
            Self::Inbox(_) => inbox::EXPECTED_INBOX_VERSION,
        }
    }

    pub(super) async fn up(&self, connection: &mut Connection, to: i32) -> Result<Vec<AppliedMigration>> {
        Ok(on!(self, connection, up(to)))
    }

    pub(super) async fn down(
        &self,
        connection: &mut Connection,
        to: i32,
        rows: PendingRows,
    ) -> Result<Vec<AppliedMigration>> {
        Ok(on!(self, connection, down(to, rows)))
    }

    pub(super) async fn status(&self, connection: &mut Connection) -> Result<Vec<MigrationStatus>> {
        Ok(on!(self, connection, status()))
    }

    /// The SQL of the way from one version to another.
    pub(super) fn print(&self, backend: Backend, from: i32, to: i32) -> Result<String> {
        Ok(match self {
            Self::Outbox(tables) if to >= from => outbox_migrations::print_up(backend, tables, from, to)?,
            Self::Outbox(tables) => outbox_migrations::print_down(backend, tables, from, to)?,
            Self::Inbox(tables) if to >= from => inbox::print_up(backend, tables, from, to)?,
            Self::Inbox(tables) => inbox::print_down(backend, tables, from, to)?,
        })
    }
}
