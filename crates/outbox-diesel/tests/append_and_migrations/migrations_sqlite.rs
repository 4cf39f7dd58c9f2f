use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection};
use outbox_diesel::migrations::{Backend, EXPECTED_VERSION, MigrationError, PendingRows, print_down, print_up, sqlite};
use outbox_diesel::sqlite::{SqliteOutbox, establish, establish_sync};
use outbox_diesel::{InvalidTables, Tables};
use tempfile::TempDir;

use super::message;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn empty() -> (TempDir, SqliteConnection, Tables) {
    let folder = tempfile::tempdir().unwrap();
    let conn = establish_sync(folder.path().join("a.db")).unwrap();
    (folder, conn, Tables::new(None, "evt_").unwrap())
}

fn objects(conn: &mut SqliteConnection) -> i64 {
    // `sqlite_sequence` stays once a table with AUTOINCREMENT was there.
    let sql = "SELECT count(*) AS n FROM sqlite_master WHERE name NOT LIKE 'sqlite%'";
    diesel::sql_query(sql).get_result::<Count>(conn).unwrap().n
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_leave_nothing_behind_with_a_prefix_of_ones_own() {
    let (folder, mut sync, tables) = empty();
    let mut conn = establish(folder.path().join("a.db")).await.unwrap();
    let up = sqlite::up(&mut conn, &tables, EXPECTED_VERSION).await.unwrap();
    assert_eq!(up.iter().map(|migration| migration.version).collect::<Vec<_>>(), [1]);
    sqlite::verify(&mut conn, &tables).await.unwrap();
    assert!(sqlite::up(&mut conn, &tables, EXPECTED_VERSION).await.unwrap().is_empty());
    let applied_at = sqlite::status(&mut conn, &tables).await.unwrap()[0].applied_at.unwrap();
    assert!((time::OffsetDateTime::now_utc() - applied_at).abs() < time::Duration::minutes(1), "{applied_at}");

    assert_eq!(sqlite::down(&mut conn, &tables, 0, PendingRows::Keep).await.unwrap().len(), 1);
    assert_eq!(objects(&mut sync), 0);
    assert_eq!(sqlite::status(&mut conn, &tables).await.unwrap()[0].applied_at, None);
    sqlite::up(&mut conn, &tables, EXPECTED_VERSION).await.unwrap();
}

#[test]
fn down_refuses_to_delete_messages_unless_told_to() {
    let (_folder, mut conn, tables) = empty();
    sqlite::up_sync(&mut conn, &tables, EXPECTED_VERSION).unwrap();
    SqliteOutbox::new(tables.clone()).unwrap().append_sync(&mut conn, &message("1")).unwrap();
    let error = sqlite::down_sync(&mut conn, &tables, 0, PendingRows::Keep).unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    sqlite::down_sync(&mut conn, &tables, 0, PendingRows::Delete).unwrap();
    assert_eq!(objects(&mut conn), 0);
}

#[test]
fn migrators_at_the_same_time_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::default();
    let applied: usize = std::thread::scope(|scope| {
        let migrators: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = establish_sync(folder.path().join("a.db")).unwrap();
                    sqlite::up_sync(&mut conn, &tables, EXPECTED_VERSION).unwrap().len()
                })
            })
            .collect();
        migrators.into_iter().map(|migrator| migrator.join().unwrap()).sum()
    });
    assert_eq!(applied, 1);
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let (_folder, mut conn, tables) = empty();
    conn.batch_execute("CREATE TABLE evt_parked_keys (id INTEGER)").unwrap();
    let error = sqlite::up_sync(&mut conn, &tables, EXPECTED_VERSION).unwrap_err();
    assert_eq!(error.to_string(), "cannot apply migration 1 (outbox)");
    assert_eq!(objects(&mut conn), 1);
}

#[test]
fn the_printed_sql_is_the_same_schema() {
    let (_folder, mut conn, tables) = empty();
    conn.batch_execute(&print_up(Backend::Sqlite, &tables, 0, EXPECTED_VERSION).unwrap()).unwrap();
    sqlite::verify_sync(&mut conn, &tables).unwrap();
    SqliteOutbox::new(tables.clone()).unwrap().append_sync(&mut conn, &message("1")).unwrap();
    conn.batch_execute(&print_down(Backend::Sqlite, &tables, EXPECTED_VERSION, 0).unwrap()).unwrap();
    assert_eq!(objects(&mut conn), 0);
}

#[test]
fn a_schema_is_refused_because_sqlite_has_none() {
    let (_folder, mut conn, _) = empty();
    let tables = Tables::new(Some("shop"), "evt_").unwrap();
    assert!(matches!(SqliteOutbox::new(tables.clone()), Err(InvalidTables::SchemaOnSqlite { .. })));
    let error = sqlite::up_sync(&mut conn, &tables, EXPECTED_VERSION).unwrap_err();
    assert!(matches!(error, MigrationError::Tables(InvalidTables::SchemaOnSqlite { .. })), "{error}");
}
