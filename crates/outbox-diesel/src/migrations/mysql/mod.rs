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
mod target;
mod versions;

pub(crate) use self::target::Target;

use diesel_async::{AsyncMysqlConnection, SimpleAsyncConnection};
use outbox_core::ports::{StorageError, StorageErrorKind};

use self::lock::{lock, unlock};
use self::statements::statements;
use self::tables::{begin_down_when_empty, create_database, exists, refuse_foreign_tables};
use self::versions::Versions;
use super::shared::{matches_expected, place, status_of};
use super::{AppliedMigration, Direction, Migration, MigrationError, MigrationStatus, PendingRows, Unfinished};
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
    up_to(conn, &Target::outbox(tables), to).await
}

pub(crate) async fn up_to(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    create_database(conn, &target.tables).await?;
    lock(conn, &target.tables).await?;
    let done = up_locked(conn, target, to).await;
    let unlocked = unlock(conn, &target.tables).await;
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
    down_to(conn, &Target::outbox(tables), to, rows).await
}

pub(crate) async fn down_to(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    lock(conn, &target.tables).await?;
    let done = down_locked(conn, target, to, rows).await;
    let unlocked = unlock(conn, &target.tables).await;
    done.and_then(|done| unlocked.map(|()| done))
}

/// Every migration that is known or applied, ascending, with where it stands when it stopped half-way.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &Target::outbox(tables)).await
}

pub(crate) async fn status_of_target(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
) -> Result<Vec<MigrationStatus>, MigrationError> {
    let versions = Versions::read(conn, target).await?;
    let mut status = status_of(target.migrations, versions.applied);
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
    let target = Target::outbox(tables);
    match found_version(conn, &target).await? {
        Found::Version(found) => matches_expected(found, &target.tables),
        Found::Unfinished(version, at) => Err(StorageError::new(
            StorageErrorKind::Refused,
            format!(
                "migration {version} of the outbox schema is not finished ({at}): run `outbox migrate {} --database URL{}`",
                at.direction,
                place(tables)
            ),
        )),
    }
}

/// What the version table says.
pub(crate) enum Found {
    /// The schema version; 0 when there are no tables.
    Version(i32),
    /// The migration to this version did not end.
    Unfinished(i32, Unfinished),
}

pub(crate) async fn found_version(conn: &mut AsyncMysqlConnection, target: &Target) -> Result<Found, StorageError> {
    match Versions::read_existing(conn, target).await {
        Ok(found) => Ok(match found.unfinished {
            Some((version, at)) => Found::Unfinished(version, at),
            None => Found::Version(found.version()),
        }),
        Err(error) => unreadable(conn, target, error).await,
    }
}

async fn up_locked(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let mut done = Vec::new();
    loop {
        let found = Versions::read(conn, target).await?.known(target)?;
        let resumed = match found.unfinished {
            Some((version, unfinished)) if unfinished.direction == Direction::Down => {
                return Err(MigrationError::HalfReverted { version, unfinished });
            }
            Some((_, unfinished)) => Some(unfinished.done),
            None => None,
        };
        let Some(next) = target.between(found.version(), to).next() else { return Ok(done) };
        if resumed.is_none() {
            if found.version() == 0 {
                refuse_foreign_tables(conn, target).await?;
            }
            versions::begin(conn, target, next, Direction::Up).await?;
        }
        run(conn, target, next, Direction::Up, resumed.unwrap_or(0)).await?;
        versions::applied(conn, target, next.version).await?;
        done.push(next.into());
    }
}

async fn down_locked(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let mut done = Vec::new();
    loop {
        let found = Versions::read(conn, target).await?.known(target)?;
        let Some(last) = target.between(to, found.latest()).next_back() else {
            if found.latest() == 0 {
                versions::drop_empty(conn, target).await?;
            }
            return Ok(done);
        };
        let resumed = found.unfinished.filter(|(_, at)| at.direction == Direction::Down).map(|(_, at)| at.done);
        match rows {
            PendingRows::Keep => {
                let begun = begin_down_when_empty(conn, target, last, resumed.is_some()).await;
                let unlocked = conn.batch_execute("UNLOCK TABLES").await;
                begun.and(unlocked.map_err(MigrationError::database("unlock the tables")))?;
            }
            PendingRows::Delete if resumed.is_none() => {
                versions::begin(conn, target, last, Direction::Down).await?;
            }
            PendingRows::Delete => {}
        }
        run(conn, target, last, Direction::Down, resumed.unwrap_or(0)).await?;
        versions::reverted(conn, target, last.version).await?;
        done.push(last.into());
    }
}

/// Runs the statements of a migration after the first `done` ones. The one that follows them may have been run before, and may be
/// run again.
async fn run(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
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
        conn.batch_execute(&target.rendered(statement)).await.map_err(MigrationError::database(format!(
            "{verb} migration {} ({}), {place}",
            migration.version, migration.name
        )))?;
        versions::step(conn, target, migration.version, index + 1).await?;
    }
    Ok(())
}

/// Why the version table cannot be read. Diesel drops the server's error code, so a second statement tells a connection that is
/// lost from a table that is not there or not granted.
async fn unreadable(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    error: MigrationError,
) -> Result<Found, StorageError> {
    if conn.batch_execute("DO 1").await.is_err() {
        return Err(StorageError::new(
            StorageErrorKind::Unavailable,
            "the connection was lost while the schema version was read",
        )
        .with_source(error));
    }
    match exists(conn, &target.tables, "schema").await {
        Ok(false) => Ok(Found::Version(0)),
        _ => Err(StorageError::new(
            StorageErrorKind::Refused,
            format!("cannot read {}: grant the account SELECT on the table", target.tables.versions()),
        )
        .with_source(error)),
    }
}
