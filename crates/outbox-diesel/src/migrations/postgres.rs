//! Migrations of PostgreSQL.
//!
//! Each migration runs in one transaction, which first takes an advisory lock named after the version table: two
//! migrators wait for each other.
//!
//! # Cancellation
//!
//! Dropping the future of any function here leaves its transaction open on the connection, uncommitted: close the
//! connection.

use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::print::create_versions;
use super::shared::{matches_expected, status_of};
use super::transactional::{Progress, Target};
use super::{AppliedMigration, Backend, MigrationError, MigrationStatus, PendingRows};
use crate::Tables;
use crate::sql::{Sql, bind};

/// Applies every migration up to `to` that is missing; [`EXPECTED_VERSION`](super::EXPECTED_VERSION) is what the relay
/// needs. Creates the schema of `tables` when it does not exist.
///
/// # Errors
///
/// A [`MigrationError`]; the migrations before the one that failed stay applied.
pub async fn up(
    conn: &mut AsyncPgConnection,
    tables: &Tables,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    up_to(conn, &Target::outbox(Backend::Postgres, tables), to).await
}

pub(crate) async fn up_to(
    conn: &mut AsyncPgConnection,
    target: &Target<'_>,
    to: i32,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    let mut done = Vec::new();
    while let Progress::Step(migration) =
        conn.transaction::<_, MigrationError, _>(async |conn| up_one(conn, target, to).await).await?
    {
        done.push(migration);
    }
    Ok(done)
}

/// Reverts every migration above `to`; 0 removes the outbox and its version table, and leaves the schema.
///
/// # Errors
///
/// [`MigrationError::NotEmpty`] when messages or dead letters would be deleted and `rows` says to keep them; another
/// [`MigrationError`] when the database fails.
pub async fn down(
    conn: &mut AsyncPgConnection,
    tables: &Tables,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    down_to(conn, &Target::outbox(Backend::Postgres, tables), to, rows).await
}

pub(crate) async fn down_to(
    conn: &mut AsyncPgConnection,
    target: &Target<'_>,
    to: i32,
    rows: PendingRows,
) -> Result<Vec<AppliedMigration>, MigrationError> {
    let to = target.known_target(to)?;
    let mut done = Vec::new();
    while let Progress::Step(migration) =
        conn.transaction::<_, MigrationError, _>(async |conn| down_one(conn, target, to, rows).await).await?
    {
        done.push(migration);
    }
    Ok(done)
}

/// Every migration that is known or applied, ascending.
///
/// # Errors
///
/// A [`MigrationError`] when the database fails.
pub async fn status(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<Vec<MigrationStatus>, MigrationError> {
    status_of_target(conn, &Target::outbox(Backend::Postgres, tables)).await
}

pub(crate) async fn status_of_target(
    conn: &mut AsyncPgConnection,
    target: &Target<'_>,
) -> Result<Vec<MigrationStatus>, MigrationError> {
    if version(conn, target.tables).await? == 0 {
        return Ok(status_of(target.migrations, Vec::new()));
    }
    let text = target.rendered(
        "SELECT version, name, (extract(epoch FROM applied_at) * 1000000)::bigint FROM {{versions}} ORDER BY version",
    );
    let applied = Sql::<_, (Integer, Text, BigInt)>::new(&text, ())
        .load::<(i32, String, i64)>(conn)
        .await
        .map_err(MigrationError::database("read the version table"))?;
    Ok(status_of(target.migrations, applied))
}

/// Checks that the schema is the one that this program works with.
///
/// # Errors
///
/// [`StorageErrorKind::Refused`], saying what to run, when it is not, and when the version table cannot be read;
/// [`StorageErrorKind::Unavailable`] when the connection is lost.
pub async fn verify(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<(), StorageError> {
    matches_expected(found_version(conn, tables).await?, tables)
}

/// The schema version; 0 when there are no tables.
pub(crate) async fn found_version(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<i32, StorageError> {
    use diesel::result::{DatabaseErrorKind, Error};

    version(conn, tables).await.map_err(|error| match error {
        MigrationError::Database { source, .. }
            if matches!(
                source,
                Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand, _)
            ) =>
        {
            StorageError::new(
                StorageErrorKind::Unavailable,
                "the connection was lost while the schema version was read",
            )
            .with_source(source)
        }
        other => StorageError::new(
            StorageErrorKind::Refused,
            format!("cannot read {}: grant the role USAGE on its schema and SELECT on the table", tables.versions()),
        )
        .with_source(other),
    })
}

async fn up_one(conn: &mut AsyncPgConnection, target: &Target<'_>, to: i32) -> Result<Progress, MigrationError> {
    lock(conn, target.tables).await?;
    let from = target.known_version(version(conn, target.tables).await?)?;
    let Some(next) = target.between(from, to).next() else { return Ok(Progress::Done) };
    if from == 0 {
        create_schema(conn, target.tables).await?;
        conn.batch_execute(&target.rendered(create_versions(Backend::Postgres)))
            .await
            .map_err(MigrationError::database("create the version table"))?;
    }
    conn.batch_execute(&target.rendered(next.up))
        .await
        .map_err(MigrationError::database(format!("apply migration {} ({})", next.version, next.name)))?;
    let text = target.rendered("INSERT INTO {{versions}} (version, name) VALUES ($1, $2)");
    Sql::<_>::new(&text, (bind::<Integer, _>(next.version), bind::<Text, _>(next.name)))
        .execute(conn)
        .await
        .map_err(MigrationError::database("write the version table"))?;
    Ok(Progress::Step(next.into()))
}

async fn down_one(
    conn: &mut AsyncPgConnection,
    target: &Target<'_>,
    to: i32,
    rows: PendingRows,
) -> Result<Progress, MigrationError> {
    lock(conn, target.tables).await?;
    let from = target.known_version(version(conn, target.tables).await?)?;
    let Some(last) = target.between(to, from).next_back() else { return Ok(Progress::Done) };
    if rows == PendingRows::Keep {
        refuse_to_lose_rows(conn, target).await?;
    }
    conn.batch_execute(&target.rendered(last.down))
        .await
        .map_err(MigrationError::database(format!("revert migration {} ({})", last.version, last.name)))?;
    let text = if last.version == 1 {
        target.rendered("DROP TABLE {{versions}}")
    } else {
        target.rendered(&format!("DELETE FROM {{{{versions}}}} WHERE version = {}", last.version))
    };
    conn.batch_execute(&text).await.map_err(MigrationError::database("write the version table"))?;
    Ok(Progress::Step(last.into()))
}

async fn lock(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<(), MigrationError> {
    Sql::<_>::new(
        "SELECT pg_advisory_xact_lock(hashtextextended('outbox migrations ' || $1, 0))",
        (bind::<Text, _>(tables.versions()),),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(MigrationError::database("take the migration lock"))
}

/// `IF NOT EXISTS` alone would demand the right to create schemas even where the schema is there.
async fn create_schema(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<(), MigrationError> {
    let Some(schema) = tables.schema() else { return Ok(()) };
    let failed = || MigrationError::database(format!("create schema {schema:?}"));
    let exists = Sql::<_, Bool>::new(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
        (bind::<Text, _>(schema),),
    )
    .get_result::<bool>(conn)
    .await
    .map_err(failed())?;
    if exists {
        return Ok(());
    }
    conn.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(failed())
}

/// The schema version; 0 when there is no outbox.
async fn version(conn: &mut AsyncPgConnection, tables: &Tables) -> Result<i32, MigrationError> {
    let failed = || MigrationError::database("read the version table");
    let exists = Sql::<_, Bool>::new("SELECT to_regclass($1) IS NOT NULL", (bind::<Text, _>(tables.versions()),))
        .get_result::<bool>(conn)
        .await
        .map_err(failed())?;
    if !exists {
        return Ok(0);
    }
    let text = tables.render("SELECT coalesce(max(version), 0) FROM {{versions}}");
    Sql::<_, Integer>::new(&text, ()).get_result(conn).await.map_err(failed())
}

/// Locks the table first, so that nothing is committed between the count and the end of the table.
async fn refuse_to_lose_rows(conn: &mut AsyncPgConnection, target: &Target<'_>) -> Result<(), MigrationError> {
    let failed = || MigrationError::database("count the messages");
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", target.kept);
    conn.batch_execute(&target.rendered(&lock)).await.map_err(failed())?;
    let (pending, dead_letters) = Sql::<_, (BigInt, BigInt)>::new(&target.rendered(target.count), ())
        .get_result::<(i64, i64)>(conn)
        .await
        .map_err(failed())?;
    if pending + dead_letters == 0 { Ok(()) } else { Err(MigrationError::NotEmpty { pending, dead_letters }) }
}
