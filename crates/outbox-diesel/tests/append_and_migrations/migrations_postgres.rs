use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::migrations::{
    Backend, EXPECTED_VERSION, MigrationError, PendingRows, postgres, print_down, print_up,
};
use outbox_diesel::postgres::PostgresOutbox;

use super::message;
use super::postgres_schema::{Schema, connect, count};

async fn objects(schema: &Schema) -> i64 {
    let sql = format!(
        "SELECT count(*) AS n FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = '{}'",
        schema.name()
    );
    count(&mut connect().await, &sql).await
}

#[tokio::test]
async fn up_and_down_leave_nothing_behind_in_a_schema_and_prefix_of_ones_own() {
    let schema = Schema::unused();
    let mut conn = connect().await;
    let up = postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap();
    assert_eq!(up.iter().map(|migration| migration.version).collect::<Vec<_>>(), [1]);
    postgres::verify(&mut conn, &schema.tables).await.unwrap();
    assert!(postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap().is_empty());
    let status = postgres::status(&mut conn, &schema.tables).await.unwrap();
    let age = time::OffsetDateTime::now_utc() - status[0].applied_at.unwrap();
    assert!(age.abs() < time::Duration::minutes(5), "{age}");

    let down = postgres::down(&mut conn, &schema.tables, 0, PendingRows::Keep).await.unwrap();
    assert_eq!(down.len(), 1);
    assert_eq!(objects(&schema).await, 0);
    assert_eq!(postgres::status(&mut conn, &schema.tables).await.unwrap()[0].applied_at, None);
    postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap();
}

#[tokio::test]
async fn down_refuses_to_delete_messages_unless_told_to() {
    let schema = Schema::migrated().await;
    let mut conn = connect().await;
    PostgresOutbox::new(schema.tables.clone()).append(&mut conn, &message("1")).await.unwrap();
    let error = postgres::down(&mut conn, &schema.tables, 0, PendingRows::Keep).await.unwrap_err();
    assert!(matches!(error, MigrationError::NotEmpty { pending: 1, dead_letters: 0 }), "{error}");
    assert_eq!(schema.messages().await, 1);
    postgres::down(&mut conn, &schema.tables, 0, PendingRows::Delete).await.unwrap();
    assert_eq!(objects(&schema).await, 0);
}

#[tokio::test]
async fn migrators_at_the_same_time_wait_for_each_other() {
    let schema = Schema::unused();
    let migrate = async || postgres::up(&mut connect().await, &schema.tables, EXPECTED_VERSION).await.unwrap().len();
    let (a, b, c) = tokio::join!(migrate(), migrate(), migrate());
    assert_eq!(a + b + c, 1);
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let schema = Schema::unused();
    let mut conn = connect().await;
    conn.batch_execute(&format!("CREATE SCHEMA {0}; CREATE TABLE {0}.evt_parked_keys ()", schema.name()))
        .await
        .unwrap();
    let error = postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot apply migration 1 (outbox)");
    assert_eq!(objects(&schema).await, 1);
}

#[tokio::test]
async fn the_printed_sql_is_the_same_schema() {
    let schema = Schema::unused();
    let mut conn = connect().await;
    let up = print_up(Backend::Postgres, &schema.tables, 0, EXPECTED_VERSION).unwrap();
    conn.batch_execute(&up).await.unwrap();
    postgres::verify(&mut conn, &schema.tables).await.unwrap();
    PostgresOutbox::new(schema.tables.clone()).append(&mut conn, &message("1")).await.unwrap();
    let down = print_down(Backend::Postgres, &schema.tables, EXPECTED_VERSION, 0).unwrap();
    conn.batch_execute(&down).await.unwrap();
    assert_eq!(objects(&schema).await, 0);
}

#[tokio::test]
async fn another_version_is_refused_with_what_to_run() {
    let schema = Schema::unused();
    let mut conn = connect().await;
    let error = postgres::verify(&mut conn, &schema.tables).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    let command = format!("run `outbox migrate up --database URL --schema {} --table-prefix evt_`", schema.name());
    assert!(error.to_string().contains(&command), "{error}");

    postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap();
    let newer = schema.tables.render("INSERT INTO {{versions}} (version, name) VALUES (99, 'later')");
    conn.batch_execute(&newer).await.unwrap();
    let error = postgres::verify(&mut conn, &schema.tables).await.unwrap_err();
    assert!(error.to_string().contains("has version 99"), "{error}");
    let error = postgres::up(&mut conn, &schema.tables, EXPECTED_VERSION).await.unwrap_err();
    assert!(matches!(error, MigrationError::Newer { found: 99 }), "{error}");
    let error = postgres::up(&mut conn, &schema.tables, 7).await.unwrap_err();
    assert!(matches!(error, MigrationError::UnknownVersion { requested: 7 }), "{error}");
}
