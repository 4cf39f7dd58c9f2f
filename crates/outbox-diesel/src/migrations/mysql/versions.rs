//! The version table of MySQL, which also says where a migration stands that did not end.

use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};

use super::Target;
use super::statements::statements;
use super::tables::exists;
use crate::migrations::print::create_versions;
use crate::migrations::{Backend, Direction, Migration, MigrationError, Unfinished};
use crate::sql::{Sql, bind};

/// What the version table says.
#[derive(Default)]
pub(super) struct Versions {
    /// Versions that are applied: (version, name, microseconds since 1970).
    pub(super) applied: Vec<(i32, String, i64)>,
    /// The version whose migration did not end.
    pub(super) unfinished: Option<(i32, Unfinished)>,
}

impl Versions {
    /// Reads the table; without one nothing is applied.
    pub(super) async fn read(conn: &mut AsyncMysqlConnection, target: &Target) -> Result<Self, MigrationError> {
        if exists(conn, &target.tables, "schema").await? {
            Self::read_existing(conn, target).await
        } else {
            Ok(Self::default())
        }
    }

    /// Reads the table, which must be there.
    pub(super) async fn read_existing(
        conn: &mut AsyncMysqlConnection,
        target: &Target,
    ) -> Result<Self, MigrationError> {
        type Row = (i32, String, Option<i64>, String, i32);
        let text = target.tables.render(
            "SELECT version, name, timestampdiff(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', applied_at), direction, step \
             FROM {{versions}} ORDER BY version",
        );
        let rows = Sql::<_, (Integer, Text, Nullable<BigInt>, Text, Integer)>::new(&text, ())
            .load::<Row>(conn)
            .await
            .map_err(MigrationError::database("read the version table"))?;
        let mut versions = Self::default();
        for (version, name, applied_at, direction, step) in rows {
            match applied_at {
                Some(micros) => versions.applied.push((version, name, micros)),
                None => versions.unfinished = Some((version, unfinished(target, version, &direction, step))),
            }
        }
        Ok(versions)
    }

    /// These versions, when this program may work on them.
    pub(super) fn known(self, target: &Target) -> Result<Self, MigrationError> {
        match self.latest() {
            found if found > target.newest() => Err(MigrationError::Newer { found }),
            _ => Ok(self),
        }
    }

    /// The highest version that is applied; 0 when none is.
    pub(super) fn version(&self) -> i32 {
        self.applied.iter().map(|row| row.0).max().unwrap_or(0)
    }

    /// The highest version that is applied, or was being applied or reverted; 0 when there is none.
    pub(super) fn latest(&self) -> i32 {
        self.version().max(self.unfinished.map_or(0, |(version, _)| version))
    }
}

/// Says that a migration begins, before its first statement.
pub(super) async fn begin(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    migration: &Migration,
    direction: Direction,
) -> Result<(), MigrationError> {
    if direction == Direction::Up {
        conn.batch_execute(&target.tables.render(create_versions(Backend::Mysql)))
            .await
            .map_err(MigrationError::database("create the version table"))?;
    }
    let text = target.tables.render(
        "INSERT INTO {{versions}} (version, name, applied_at, direction, step) VALUES (?, ?, NULL, ?, 0) \
         ON DUPLICATE KEY UPDATE applied_at = NULL, direction = ?, step = 0",
    );
    let direction = || bind::<Text, _>(direction.to_string());
    let binds = (bind::<Integer, _>(migration.version), bind::<Text, _>(migration.name), direction(), direction());
    Sql::<_>::new(&text, binds).execute(conn).await.map_err(failed())?;
    commit(conn).await
}

/// Says that `done` statements of a migration are done.
pub(super) async fn step(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    version: i32,
    done: usize,
) -> Result<(), MigrationError> {
    let text = target.tables.render("UPDATE {{versions}} SET step = ? WHERE version = ?");
    let done = i32::try_from(done).unwrap_or(i32::MAX);
    Sql::<_>::new(&text, (bind::<Integer, _>(done), bind::<Integer, _>(version)))
        .execute(conn)
        .await
        .map_err(failed())?;
    commit(conn).await
}

/// Says that a migration is applied.
pub(super) async fn applied(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    version: i32,
) -> Result<(), MigrationError> {
    let text = target.tables.render("UPDATE {{versions}} SET applied_at = utc_timestamp(6) WHERE version = ?");
    Sql::<_>::new(&text, (bind::<Integer, _>(version),)).execute(conn).await.map_err(failed())?;
    commit(conn).await
}

/// Says that a migration is reverted; with the first one the table goes.
pub(super) async fn reverted(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    version: i32,
) -> Result<(), MigrationError> {
    let text = if version == 1 {
        target.tables.render("DROP TABLE {{versions}}")
    } else {
        target.tables.render(&format!("DELETE FROM {{{{versions}}}} WHERE version = {version}"))
    };
    conn.batch_execute(&text).await.map_err(failed())?;
    commit(conn).await
}

/// Drops the table that `begin` left without a row when it stopped there.
pub(super) async fn drop_empty(conn: &mut AsyncMysqlConnection, target: &Target) -> Result<(), MigrationError> {
    if exists(conn, &target.tables, "schema").await? {
        conn.batch_execute(&target.tables.render("DROP TABLE {{versions}}")).await.map_err(failed())?;
    }
    Ok(())
}

fn unfinished(target: &Target, version: i32, direction: &str, step: i32) -> Unfinished {
    let direction = if direction == "down" { Direction::Down } else { Direction::Up };
    let migration = target.migrations.iter().find(|migration| migration.version == version);
    let of = migration.map_or(0, |migration| {
        statements(if direction == Direction::Up { migration.up } else { migration.down }).len()
    });
    Unfinished { direction, done: usize::try_from(step).unwrap_or(0), of }
}

/// For a session without autocommit.
async fn commit(conn: &mut AsyncMysqlConnection) -> Result<(), MigrationError> {
    conn.batch_execute("COMMIT").await.map_err(failed())
}

fn failed() -> impl FnOnce(diesel::result::Error) -> MigrationError {
    MigrationError::database("write the version table")
}
