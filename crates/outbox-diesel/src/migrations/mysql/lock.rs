//! The lock that keeps two migrators apart.

use diesel::sql_types::{Integer, Nullable, Text};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl};

use crate::Tables;
use crate::migrations::MigrationError;
use crate::sql::{Sql, bind};

/// Seconds of one wait for the lock: an endless one is a negative number on MySQL, which MariaDB does not take.
const LOCK_WAIT_S: i32 = 10;

/// The name of the lock, of which a server has one space for all databases, and 64 characters.
const LOCK_NAME: &str = "concat('outbox ', sha2(concat(coalesce(?, database(), ''), '.', ?), 224))";

pub(super) async fn lock(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<(), MigrationError> {
    let text = format!("SELECT get_lock({LOCK_NAME}, {LOCK_WAIT_S})");
    let binds = || (bind::<Nullable<Text>, _>(tables.schema()), bind::<Text, _>(tables.prefix()));
    let failed = || MigrationError::database("take the migration lock");
    loop {
        let taken =
            Sql::<_, Nullable<Integer>>::new(&text, binds()).get_result::<Option<i32>>(conn).await.map_err(failed())?;
        match taken {
            Some(1) => return Ok(()),
            Some(_) => {}
            None => return Err(failed()(diesel::result::Error::NotFound)),
        }
    }
}

pub(super) async fn unlock(conn: &mut AsyncMysqlConnection, tables: &Tables) -> Result<(), MigrationError> {
    let text = format!("DO release_lock({LOCK_NAME})");
    let binds = (bind::<Nullable<Text>, _>(tables.schema()), bind::<Text, _>(tables.prefix()));
    Sql::<_>::new(&text, binds)
        .execute(conn)
        .await
        .map(drop)
        .map_err(MigrationError::database("release the migration lock"))
}
