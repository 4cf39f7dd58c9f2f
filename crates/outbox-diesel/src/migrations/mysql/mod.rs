//! Migrations of MySQL and MariaDB.
//!
//! DDL is not transactional here, each statement commits by itself. The version table says which statements of a migration are done, and
//! each can be run again: a migration that stopped half-way goes on with the next `up` or `down`, and [`verify`] refuses the
//! schema until then. Two migrators wait for each other through `GET_LOCK`. Do not call these functions inside a transaction: they
//! commit it.
//!
//! # Cancellation
//!
//! Dropping the future of a function here leaves the migration where it is and its lock on the connection: close the connection.

mod lock;
mod statements;
mod tables;
mod versions;

use diesel_async::{AsyncMysqlConnection, SimpleAsyncConnection};
use outbox_core::ports::{StorageError, StorageErrorKind};

use self::lock::{lock, unlock};
use self::statements::statements;
use self::tables::{begin_down_when_empty, create_database, exists, refuse_foreign_tables};
use self::versions::Versions;
use super::shared::{matches_expected, place, status_of};
use super::{
    AppliedMigration, Backend, Direction, Migration, MigrationError, MigrationStatus, PendingRows, known_target,
    migrations,
};
use crate::Tables;

/// Applies every migration up to `to` that is missing, also one that stopped half-way;
/// [`EXPECTED_VERSION`](super::EXPECTED_VERSION) is what the relay needs. Creates the database that is the schema of `tables` when
/// it does not exist.
///
/// # Errors
///
/// A [`MigrationError`]; what was done stays, and the next call goes on after it.
pub async fn up(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = known_target(to)?;
    let tables = tables.for_backend(Backend::Mysql);
    create_database(conn, &tables).await?;
    lock(conn, &tables).await?;
    let done = up_locked(conn, &tables, to).await;
    let unlocked = unlock(conn, &tables).await;
    done.and_then(|done| unlocked.map(|()| done))
}

/// Reverts every migration above `to`, also one that stopped half-way; 0 removes the outbox and its version table, and leaves the
/// database.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub async fn down(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = known_target(to)?;
    let tables = tables.for_backend(Backend::Mysql);
    lock(conn, &tables).await?;
    let done = down_locked(conn, &tables, to, rows).await;
    let unlocked = unlock(conn, &tables).await;
    done.and_then(|done| unlocked.map(|()| done))
}

/// Every migration that is known or applied, ascending, with where it stands when it stopped half-way.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<Vec<MigrationStatus>, MigrationError> {
    let versions = Versions::read(conn, &tables.for_backend(Backend::Mysql)).await?;
    let mut status = status_of(Backend::Mysql.migrations(), versions.applied);
    for row in &mut status {
        row.unfinished = versions.unfinished.filter(|(version, _)| *version == row.version).map(|(_, at)| at);
    }
    Ok(status)
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// [`StorageErrorKind::Refused`], saying what to run, when it is not, and when the version table cannot be read;
/// [`StorageErrorKind::Unavailable`] when the connection is lost.
pub async fn verify(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<(), StorageError> {
    let tables = &tables.for_backend(Backend::Mysql);
    let found = match Versions::read_existing(conn, tables).await {
        Ok(found) => found,
        Err(error) => return Err(unreadable(conn, tables, error).await),
    };
    let Some((version, at)) = found.unfinished else { return matches_expected(found.version(), tables) };
    Err(StorageError::new(
        StorageErrorKind::Refused,
        format!(
            "migration {version} of the outbox schema is not finished ({at}): run `outbox migrate {} --database URL{}`",
            at.direction,
            place(tables)
        ),
    ))
}

async fn up_locked(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let mut done = Vec::new();
    loop {
        let found = Versions::read(conn, tables).await?.known()?;
        let resumed = match found.unfinished {
            Some((version, unfinished)) if unfinished.direction == Direction::Down => {
                return Err(MigrationError::HalfReverted { version, unfinished });
            }
            Some((_, unfinished)) => Some(unfinished.done),
            None => None,
        };
        let Some(next) = migrations(Backend::Mysql, found.version(), to).next() else { return Ok(done) };
        if resumed.is_none() {
            if found.version() == 0 {
                refuse_foreign_tables(conn, tables).await?;
            }
            versions::begin(conn, tables, next, Direction::Up).await?;
        }
        run(conn, tables, next, Direction::Up, resumed.unwrap_or(0)).await?;
        versions::applied(conn, tables, next.version).await?;
        done.push(next.into());
    }
}

async fn down_locked(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let mut done = Vec::new();
    loop {
        let found = Versions::read(conn, tables).await?.known()?;
        let Some(last) = migrations(Backend::Mysql, to, found.latest()).next_back() else {
            if found.latest() == 0 {
                versions::drop_empty(conn, tables).await?;
            }
            return Ok(done);
        };
        let resumed = found.unfinished.filter(|(_, at)| at.direction == Direction::Down).map(|(_, at)| at.done);
        match rows {
            PendingRows::Keep => {
                let begun = begin_down_when_empty(conn, tables, last, resumed.is_some()).await;
                let unlocked = conn.batch_execute("UNLOCK TABLES").await;
                begun.and(unlocked.map_err(MigrationError::database("unlock the tables")))?;
            }
            PendingRows::Delete if resumed.is_none() => {
                versions::begin(conn, tables, last, Direction::Down).await?;
            }
            PendingRows::Delete => {}
        }
        run(conn, tables, last, Direction::Down, resumed.unwrap_or(0)).await?;
        versions::reverted(conn, tables, last.version).await?;
        done.push(last.into());
    }
}

/// Runs the statements of a migration after the first `done` ones. The one that follows them may have been run before, and may be
/// run again.
async fn run(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    migration: &Migration,
    direction: Direction,
    done: usize,
) -> Result<(), MigrationError> {
    let (sql, verb) = match direction {
        Direction::Up => (migration.up, "apply"),
        Direction::Down => (migration.down, "revert"),
    };
    let all = statements(sql);
    for (index, statement) in all.iter().enumerate().skip(done) {
        let place = format!("statement {} of {}", index + 1, all.len());
        conn.batch_execute(&tables.render(statement)).await.map_err(MigrationError::database(format!(
            "{verb} migration {} ({}), {place}",
            migration.version, migration.name
        )))?;
        versions::step(conn, tables, migration.version, index + 1).await?;
    }
    Ok(())
}

/// Why the version table cannot be read. Diesel drops the server's error code, so a second statement tells a connection that is
/// lost from a table that is not there or not granted.
async fn unreadable(conn: &mut AsyncMysqlConnection, tables: &Tables, error: MigrationError) -> StorageError {
    if conn.batch_execute("DO 1").await.is_err() {
        return StorageError::new(
            StorageErrorKind::Unavailable,
            "the connection was lost while the schema version was read",
        )
        .with_source(error);
    }
    match exists(conn, tables, "schema").await {
        Ok(false) => matches_expected(0, tables).unwrap_err(),
        _ => StorageError::new(
            StorageErrorKind::Refused,
            format!("cannot read {}: grant the account SELECT on the table", tables.versions()),
        )
        .with_source(error),
    }
}
