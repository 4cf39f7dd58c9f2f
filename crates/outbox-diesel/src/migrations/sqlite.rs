//! Migrations of SQLite.
//!
//! Each migration runs in a `BEGIN IMMEDIATE` transaction of its own, whose write lock keeps two migrators apart. The functions
//! whose names end with `_sync` block.
//!
//! # Cancellation
//!
//! A migration that has begun runs to its end. Dropping the future on a current-thread runtime panics (a limit of
//! diesel-async's SQLite connection).

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::print::create_versions;
use super::shared::status_of;
use super::transactional::{Progress, Target};
use super::{AppliedMigration, Backend, MigrationError, MigrationStatus, PendingRows};
use crate::Tables;
use crate::sql::{Sql, bind};
use crate::sqlite::storage_error;

/// Applies every migration up to `to` that is missing; [`EXPECTED_VERSION`](super::EXPECTED_VERSION) is what the relay needs.
///
/// # Errors
///
/// A [`MigrationError`]; the migrations before the one that failed stay applied.
pub async fn up(conn: &mut Wrapped, tables: &Tables, to: i32) -> Result<Vec<AppliedMigration>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(up_sync(conn, &tables, to))).await?
}

/// Reverts every migration above `to`; 0 removes the outbox and its version table.
///
/// # Errors
///
/// As [`down_sync`].
pub async fn down(
    conn: &mut Wrapped,
    tables: &Tables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(down_sync(conn, &tables, to, rows))).await?
}

/// Every migration that is known or applied, ascending.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(conn: &mut Wrapped, tables: &Tables) -> Result<Vec<MigrationStatus>, MigrationError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(status_sync(conn, &tables))).await?
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// As [`verify_sync`].
pub async fn verify(conn: &mut Wrapped, tables: &Tables) -> Result<(), StorageError> {
    let tables = tables.clone();
    conn.spawn_blocking(move |conn| Ok(verify_sync(conn, &tables)))
        .await
        .map_err(|error| storage_error("read the schema version", error))?
}

type Wrapped = SyncConnectionWrapper<SqliteConnection>;

/// [`up`] on a synchronous connection.
///
/// # Errors
///
/// A [`MigrationError`]; the migrations before the one that failed stay applied.
pub fn up_sync(conn: &mut SqliteConnection, tables: &Tables, to: i32) -> Result<Vec<AppliedMigration>, MigrationError> {
    up_to(conn, &Target::outbox(Backend::Sqlite, tables), to)
}

pub(crate) fn up_to(
    conn: &mut SqliteConnection,
    target: &Target<'_>,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    steps(|| {
        conn.immediate_transaction(|conn| {
            let from = target.known_version(version(conn, target.tables)?)?;
            let Some(next) = target.between(from, to).next() else { return Ok(Progress::Done) };
            conn.batch_execute(&target.rendered(create_versions(Backend::Sqlite)))
                .map_err(MigrationError::database("create the version table"))?;
            conn.batch_execute(&target.rendered(next.up))
                .map_err(MigrationError::database(format!("apply migration {} ({})", next.version, next.name)))?;
            let text = target.rendered("INSERT INTO {{versions}} (version, name) VALUES (?, ?)");
            Sql::<_>::new(&text, (bind::<Integer, _>(next.version), bind::<Text, _>(next.name)))
                .execute(conn)
                .map_err(MigrationError::database("write the version table"))?;
            Ok(Progress::Step(next.into()))
        })
    })
}

/// [`down`] on a synchronous connection.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub fn down_sync(
    conn: &mut SqliteConnection,
    tables: &Tables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    down_to(conn, &Target::outbox(Backend::Sqlite, tables), to, rows)
}

pub(crate) fn down_to(
    conn: &mut SqliteConnection,
    target: &Target<'_>,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    steps(|| {
        conn.immediate_transaction(|conn| {
            let from = target.known_version(version(conn, target.tables)?)?;
            let Some(last) = target.between(to, from).next_back() else { return Ok(Progress::Done) };
            if rows == PendingRows::Keep {
                refuse_to_lose_rows(conn, target)?;
            }
            conn.batch_execute(&target.rendered(last.down))
                .map_err(MigrationError::database(format!("revert migration {} ({})", last.version, last.name)))?;
            let text = if last.version == 1 {
                target.rendered("DROP TABLE {{versions}}")
            } else {
                target.rendered(&format!("DELETE FROM {{{{versions}}}} WHERE version = {}", last.version))
            };
            conn.batch_execute(&text).map_err(MigrationError::database("write the version table"))?;
            Ok(Progress::Step(last.into()))
        })
    })
}

/// [`status`] on a synchronous connection.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub fn status_sync(conn: &mut SqliteConnection, tables: &Tables) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &Target::outbox(Backend::Sqlite, tables))
}

pub(crate) fn status_of_target(
    conn: &mut SqliteConnection,
    target: &Target<'_>,
) -> Result<Vec<MigrationStatus>, MigrationError> {
    if version(conn, target.tables)? == 0 {
        return Ok(status_of(target.migrations, Vec::new()));
    }
    let text = target.rendered("SELECT version, name, applied_at FROM {{versions}} ORDER BY version");
    let applied = Sql::<_, (Integer, Text, BigInt)>::new(&text, ())
        .load::<(i32, String, i64)>(conn)
        .map_err(MigrationError::database("read the version table"))?;
    Ok(status_of(target.migrations, applied))
}

/// [`verify`] on a synchronous connection.
///
/// # Errors
///
/// [`StorageErrorKind::Refused`], saying what to run, when it is not; as [`check`](outbox_core::Storage::check) otherwise.
pub fn verify_sync(conn: &mut SqliteConnection, tables: &Tables) -> Result<(), StorageError> {
    super::shared::matches_expected(found_version(conn, tables)?, tables)
}

/// The schema version; 0 when there are no tables.
pub(crate) fn found_version(conn: &mut SqliteConnection, tables: &Tables) -> Result<i32, StorageError> {
    version(conn, tables).map_err(|error| match error {
        MigrationError::Database { action, source } => storage_error(&action, source),
        other => StorageError::new(StorageErrorKind::Refused, other.to_string()),
    })
}

/// The schema version; 0 when there is no outbox.
fn version(conn: &mut SqliteConnection, tables: &Tables) -> Result<i32, MigrationError> {
    tables.clone().without_schema()?;
    let failed = || MigrationError::database("read the version table");
    let table = format!("{}schema", tables.prefix());
    let exists = Sql::<_, Integer>::new(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
        (bind::<Text, _>(table),),
    )
    .get_result::<i32>(conn)
    .optional()
    .map_err(failed())?;
    if exists.is_none() {
        return Ok(0);
    }
    let text = tables.render("SELECT coalesce(max(version), 0) FROM {{versions}}");
    Sql::<_, Integer>::new(&text, ()).get_result(conn).map_err(failed())
}

fn refuse_to_lose_rows(conn: &mut SqliteConnection, target: &Target<'_>) -> Result<(), MigrationError> {
    let text = target.rendered(target.count);
    let (pending, dead_letters) = Sql::<_, (BigInt, BigInt)>::new(&text, ())
        .get_result::<(i64, i64)>(conn)
        .map_err(MigrationError::database("count the messages"))?;
    if pending + dead_letters == 0 { Ok(()) } else { Err(MigrationError::NotEmpty { pending, dead_letters }) }
}

fn steps(mut step: impl FnMut() -> Result<Progress, MigrationError>) -> Result<Vec<AppliedMigration>, MigrationError> {
    let mut done = Vec::new();
    while let Progress::Step(migration) = step()? {
        done.push(migration);
    }
    Ok(done)
}
