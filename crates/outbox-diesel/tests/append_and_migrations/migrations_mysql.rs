use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::migrations::{Backend, EXPECTED_VERSION, MigrationError, PendingRows, mysql, print_down, print_up};
use outbox_diesel::mysql::MysqlOutbox;

use super::message;
use super::mysql_schema::{Database, connect};

#[tokio::test]
async fn up_and_down_leave_nothing_behind_in_a_database_and_prefix_of_ones_own() {
    let database = Database::unused();
    let mut conn = connect().await;
    let up = mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap();
    assert_eq!(up.iter().map(|migration| migration.version).collect::<Vec<_>>(), [1]);
    mysql::verify(&mut conn, &database.tables).await.unwrap();
    assert!(mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap().is_empty());
    let status = mysql::status(&mut conn, &database.tables).await.unwrap();
    let age = time::OffsetDateTime::now_utc() - status[0].applied_at.unwrap();
    assert!(age.abs() < time::Duration::minutes(5), "{age}");

    let down = mysql::down(&mut conn, &database.tables, 0, PendingRows::Keep).await.unwrap();
    assert_eq!(down.len(), 1);
    assert_eq!(database.definitions().await, [""; 0]);
    assert_eq!(mysql::status(&mut conn, &database.tables).await.unwrap()[0].applied_at, None);
    mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap();
}

#[tokio::test]
async fn without_a_schema_the_tables_are_in_the_database_of_the_connection() {
    let database = Database::empty().await;
    let mut conn = connect().await;
    conn.batch_execute(&format!("USE {}", database.name())).await.unwrap();
    let tables = outbox_diesel::Tables::new(None, "evt_").unwrap();
    mysql::up(&mut conn, &tables, EXPECTED_VERSION).await.unwrap();
    mysql::verify(&mut conn, &tables).await.unwrap();
    MysqlOutbox::new(tables).append(&mut conn, &message("1")).await.unwrap();
    assert_eq!(database.messages().await, 1);
}

#[tokio::test]
async fn down_refuses_to_delete_messages_unless_told_to() {
    let database = Database::migrated().await;
    let mut conn = connect().await;
    MysqlOutbox::new(database.tables.clone()).append(&mut conn, &message("1")).await.unwrap();
    let error = mysql::down(&mut conn, &database.tables, 0, PendingRows::Keep).await.unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    assert_eq!(database.messages().await, 1);
    mysql::verify(&mut conn, &database.tables).await.unwrap();
    mysql::down(&mut conn, &database.tables, 0, PendingRows::Delete).await.unwrap();
    assert_eq!(database.definitions().await, [""; 0]);
}

#[tokio::test]
async fn migrators_at_the_same_time_wait_for_each_other() {
    let database = Database::unused();
    let migrate = async || mysql::up(&mut connect().await, &database.tables, EXPECTED_VERSION).await.unwrap().len();
    let (a, b, c) = tokio::join!(migrate(), migrate(), migrate());
    assert_eq!(a + b + c, 1);
}

#[tokio::test]
async fn a_strangers_table_of_the_same_name_is_refused_before_anything_is_made() {
    let database = Database::empty().await;
    let mut conn = connect().await;
    let table = database.tables.parked_keys();
    conn.batch_execute(&format!("CREATE TABLE {table} (id int)")).await.unwrap();
    let error = mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap_err();
    assert!(matches!(&error, MigrationError::TableExists { table: found } if found == table), "{error}");
    assert_eq!(database.definitions().await.len(), 1);
}

#[tokio::test]
async fn the_printed_sql_is_the_same_schema_and_can_be_run_again_when_it_stopped() {
    let (printed, migrated) = (Database::unused(), Database::migrated().await);
    let mut conn = connect().await;
    let up = print_up(Backend::Mysql, &printed.tables, 0, EXPECTED_VERSION).unwrap();
    let stopped = up.find("-- Relays that are alive").unwrap();
    conn.batch_execute(&up[..stopped]).await.unwrap();
    conn.batch_execute(&up).await.unwrap();
    mysql::verify(&mut connect().await, &printed.tables).await.unwrap();
    assert_eq!(printed.definitions().await, migrated.definitions().await);
    MysqlOutbox::new(printed.tables.clone()).append(&mut connect().await, &message("1")).await.unwrap();
    let down = print_down(Backend::Mysql, &printed.tables, EXPECTED_VERSION, 0).unwrap();
    conn.batch_execute(&down).await.unwrap();
    assert_eq!(printed.definitions().await, [""; 0]);
}

#[tokio::test]
async fn another_version_is_refused_with_what_to_run() {
    let database = Database::unused();
    let mut conn = connect().await;
    let error = mysql::verify(&mut conn, &database.tables).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    let command = format!("run `outbox migrate up --database URL --schema {} --table-prefix evt_`", database.name());
    assert!(error.to_string().contains(&command), "{error}");

    mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap();
    let newer = database.tables.render("INSERT INTO {{versions}} (version, name) VALUES (99, 'later')");
    conn.batch_execute(&newer).await.unwrap();
    let error = mysql::verify(&mut conn, &database.tables).await.unwrap_err();
    assert!(error.to_string().contains("has version 99"), "{error}");
    assert_eq!(mysql::status(&mut conn, &database.tables).await.unwrap()[1].version, 99);
    let error = mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap_err();
    assert!(matches!(error, MigrationError::Newer { found: 99 }), "{error}");
    let error = mysql::up(&mut conn, &database.tables, 7).await.unwrap_err();
    assert!(matches!(error, MigrationError::UnknownVersion { requested: 7 }), "{error}");
}

#[tokio::test]
async fn a_session_without_autocommit_migrates_too() {
    let database = Database::unused();
    let mut conn = connect().await;
    conn.batch_execute("SET autocommit = 0").await.unwrap();
    mysql::up(&mut conn, &database.tables, EXPECTED_VERSION).await.unwrap();
    drop(conn);
    mysql::verify(&mut connect().await, &database.tables).await.unwrap();
    assert_eq!(database.count("SELECT count(*) AS n FROM {{leases}}").await, 64);
}
