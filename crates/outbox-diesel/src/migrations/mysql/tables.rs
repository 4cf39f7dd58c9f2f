//! Looks at the tables that are there, before anything is created or dropped.

use diesel::OptionalExtension;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};

use super::{Target, versions};
use crate::Tables;
use crate::migrations::{Direction, Migration, MigrationError};
use crate::sql::{Sql, bind};

/// Whether the table with this name after the prefix is there, as far as the account may see it.
pub(super) async fn exists(
    conn: &mut AsyncMysqlConnection,
    tables: &Tables,
    name: &str,
) -> Result<bool, MigrationError> {
    let row = Sql::<_, Integer>::new(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = coalesce(?, database()) AND table_name = ?",
        (bind::<Nullable<Text>, _>(tables.schema()), bind::<Text, _>(format!("{}{name}", tables.prefix()))),
    )
    .get_result::<i32>(conn)
    .await
    .optional();
    Ok(row.map_err(MigrationError::database("look for the tables"))?.is_some())
}

/// `IF NOT EXISTS` alone would demand the right to create databases even where the database is there.
pub(super) async fn create_database(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<(), MigrationError> {
    let Some(schema) = tables.schema() else { return Ok(()) };
    let failed = || MigrationError::database(format!("create database {schema:?}"));
    let found = Sql::<_, Integer>::new(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name = ?",
        (bind::<Text, _>(schema),),
    )
    .load::<i32>(conn)
    .await
    .map_err(failed())?;
    if !found.is_empty() {
        return Ok(());
    }
    conn.batch_execute(&format!("CREATE DATABASE IF NOT EXISTS `{schema}`")).await.map_err(failed())
}

/// Locks the tables that hold messages first, so that nothing is committed between the count and the end of the table. The caller
/// unlocks.
pub(super) async fn begin_down_when_empty(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
    migration: &Migration,
    resumed: bool,
) -> Result<(), MigrationError> {
    let failed = || MigrationError::database("count the messages");
    let mut there = Vec::new();
    let kept = target.table(target.pending);
    for (name, table) in [(target.pending, kept.clone()), ("dead_letters", target.table("dead_letters"))] {
        if exists(conn, &target.tables, name).await? {
            there.push(table);
        }
    }
    let locks: String = there.iter().map(|table| format!(", {table} WRITE")).collect();
    conn.batch_execute(&format!("LOCK TABLES {} WRITE{locks}", target.tables.versions())).await.map_err(failed())?;
    let (mut pending, mut dead_letters) = (0, 0);
    for table in &there {
        let text = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 10000) AS found");
        let count = Sql::<_, BigInt>::new(&text, ()).get_result::<i64>(conn).await.map_err(failed())?;
        *if *table == kept { &mut pending } else { &mut dead_letters } = count;
    }
    if pending + dead_letters > 0 {
        return Err(MigrationError::NotEmpty { pending, dead_letters });
    }
    if !resumed {
        versions::begin(conn, target, migration, Direction::Down).await?;
    }
    if migration.version == 1 && !there.is_empty() {
        let text = format!("DROP TABLE {}", there.join(", "));
        conn.batch_execute(&text).await.map_err(MigrationError::database("drop the empty tables"))?;
    }
    Ok(())
}

/// A migration that begins has `IF NOT EXISTS` to be run again, which would take a stranger's table for its own.
pub(super) async fn refuse_foreign_tables(
    conn: &mut AsyncMysqlConnection,
    target: &Target,
) -> Result<(), MigrationError> {
    for name in target.all {
        if exists(conn, &target.tables, name).await? {
            return Err(MigrationError::TableExists { table: target.table(name) });
        }
    }
    Ok(())
}
