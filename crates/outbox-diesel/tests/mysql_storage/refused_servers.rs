//! A database that must not be used as it is: the error says what to do.

use outbox_core::ports::{Storage, StorageErrorKind};
use outbox_diesel::Tables;
use outbox_diesel::mysql::MysqlStorage;

use crate::database::{Database, server_url};

async fn refusal(database: &Database) -> String {
    let error = database.storage().check().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_sound_database_passes_and_says_what_it_is() {
    let database = Database::create().await;
    database.insert(100, 10).await;
    let profile = database.storage().check().await.unwrap();
    assert_eq!(profile.shards, 64);
    assert!(profile.server.starts_with("MariaDB 1") || profile.server.starts_with("MySQL "), "{}", profile.server);
}

#[tokio::test]
async fn a_table_without_transactions_is_refused() {
    let database = Database::create().await;
    database.execute("ALTER TABLE outbox_relays ENGINE = MyISAM").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("outbox_relays") && refusal.contains("ENGINE = InnoDB"), "{refusal}");
}

#[tokio::test]
async fn a_column_with_another_collation_is_refused() {
    let database = Database::create().await;
    database.execute("ALTER TABLE outbox_messages MODIFY event_type varchar(256) CHARACTER SET latin1 NOT NULL").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("event_type") && refusal.contains("utf8mb4_bin"), "{refusal}");
}

#[tokio::test]
async fn missing_lease_rows_are_refused() {
    let database = Database::create().await;
    database.execute("DELETE FROM outbox_leases").await;
    assert!(refusal(&database).await.contains("one for each shard"));
}

#[tokio::test]
async fn another_schema_version_is_refused_with_the_command_to_run() {
    let database = Database::create().await;
    let other = MysqlStorage::builder(database.url()).tables(Tables::new(None, "none_").unwrap()).build().unwrap();
    let missing = other.check().await.unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::Refused);
    assert!(missing.to_string().contains("outbox migrate up"), "{missing}");
    database.execute("UPDATE outbox_schema SET version = 99").await;
    assert!(refusal(&database).await.contains("version 99"));
}

#[tokio::test]
async fn a_url_without_a_database_is_refused() {
    let url = server_url();
    let url = url.split('?').next().unwrap_or(&url).trim_end_matches('/').to_owned();
    let error = MysqlStorage::builder(url).build().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("names no database"), "{error}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_refused_and_a_server_that_is_not_there_unavailable() {
    let database = Database::create().await;
    let url = database.url().replace(&database.name, "no_such_database");
    let error = MysqlStorage::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");

    let error = MysqlStorage::connect("mysql://u:secret@127.0.0.1:1/d").await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));

    let error = MysqlStorage::connect(&database.url_of("nobody:secret")).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
}
