//! Start-up refuses what cannot work and says what to do.

use outbox_core::ports::{Storage, StorageError, StorageErrorKind};
use outbox_diesel::Tables;
use outbox_diesel::sqlite::{SqliteOutbox, SqliteStorage};

use super::support::Database;

async fn refusal(storage: SqliteStorage) -> String {
    let error = storage.check().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_database_that_is_as_it_should_be_passes() {
    let profile = Database::new().storage().await.check().await.unwrap();
    assert_eq!(profile.shards, 1);
    assert!(profile.server.starts_with("SQLite 3."), "{}", profile.server);
}

#[tokio::test]
async fn a_file_that_does_not_exist_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.db");
    let error: StorageError = SqliteStorage::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert!(error.to_string().contains("does not exist: run `outbox migrate up"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_database_without_the_tables_names_the_command() {
    let database = Database::new();
    let tables = Tables::new(None, "other_").unwrap();
    let storage = SqliteStorage::builder(database.path()).tables(tables).connect().await.unwrap();
    let refusal = refusal(storage).await;
    assert!(refusal.contains("run `outbox migrate up --database URL --table-prefix other_`"), "{refusal}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Database::new();
    database.execute("INSERT INTO outbox_schema (version, name) VALUES (99, 'later')");
    let refusal = refusal(database.storage().await).await;
    assert!(refusal.contains("version 99"), "{refusal}");
}

#[tokio::test]
async fn a_sequence_that_was_set_back_is_refused_until_the_named_fix_ran() {
    let database = Database::new();
    database.append("1");
    database.append("1");
    database.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'outbox_messages'");
    let refusal = refusal(database.storage().await).await;
    let fix = refusal.split('`').nth(1).unwrap_or_else(|| panic!("no fix in {refusal}"));
    database.execute(fix);
    database.storage().await.check().await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused() {
    let database = Database::new();
    let storage = SqliteStorage::connect(format!("file:{}?mode=ro", database.path())).await.unwrap();
    let refusal = refusal(storage).await;
    assert!(refusal.contains("not writable"), "{refusal}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database at all. ".repeat(100)).unwrap();
    let error = SqliteStorage::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    assert!(error.to_string().contains("no SQLite database"), "{error}");
}

#[tokio::test]
async fn a_database_in_memory_and_a_schema_are_refused() {
    let error = SqliteStorage::connect(":memory:").await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    let tables = Tables::new(Some("shop"), "outbox_").unwrap();
    assert!(SqliteOutbox::new(tables.clone()).is_err());
    let database = Database::new();
    let error = SqliteStorage::builder(database.path()).tables(tables).connect().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
}
