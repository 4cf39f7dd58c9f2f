//! A database that must not be used as it is: the error says what to do.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use outbox_core::inbox::InboxStorage;
use outbox_core::ports::{StorageError, StorageErrorKind};
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::sqlite::SqliteInbox;

use crate::database::Database;

async fn refusal(storage: &SqliteInbox) -> String {
    refused(storage.check().await.unwrap_err())
}

fn refused(error: StorageError) -> String {
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_database_that_is_as_it_should_be_passes() {
    let database = Database::create();
    assert!(database.storage().check().await.unwrap().server.starts_with("SQLite 3."));
}

#[tokio::test]
async fn a_setting_that_loses_commits_is_refused() {
    let database = Database::create();
    let hasty = database.builder().on_connect(|sqlite| sqlite.batch_execute("PRAGMA synchronous = NORMAL"));
    let refusal = refusal(&hasty.build().unwrap()).await;
    assert!(refusal.contains("synchronous is below FULL"), "{refusal}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Database::create();
    database.batch("INSERT INTO inbox_schema (version, name) VALUES (99, 'future')");
    let refusal = refusal(&database.storage()).await;
    assert!(refusal.contains("version 99") && refusal.contains("newer program"), "{refusal}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused() {
    let database = Database::create();
    let url = format!("file:{}?mode=ro", database.path());
    let refusal = refusal(&SqliteInbox::builder(url).build().unwrap()).await;
    assert!(refusal.contains("not writable"), "{refusal}");
}

#[tokio::test]
async fn numbers_that_were_set_back_are_refused_until_the_named_fix_ran() {
    let database = Database::create();
    database.batch(
        "INSERT INTO inbox_held (seq, consumer, stream, partition, position, status, due_at, redelivered, headers) \
         VALUES (7, 'billing', 'order', 0, 1, 'waiting', 0, 0, '[]')",
    );
    let refusal = refusal(&database.storage()).await;
    let fix = refusal.split('`').nth(1).unwrap_or_else(|| panic!("no fix in {refusal}"));
    database.batch(fix);
    database.storage().check().await.unwrap();
}

#[tokio::test]
async fn a_file_that_does_not_exist_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.db");
    let error = SqliteInbox::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("does not exist: run the migrations"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn values_that_cannot_be_used_are_named() {
    let text = refused(SqliteInbox::connect(":memory:").await.unwrap_err());
    assert!(text.contains("in memory"), "{text}");
    let schema = InboxTables::new(Some("shop"), "inbox_").unwrap();
    let text = refused(SqliteInbox::builder("shop.db").tables(schema).build().unwrap_err());
    assert!(text.contains("no schemas"), "{text}");
    let text = refused(SqliteInbox::builder("shop.db").lock_timeout(Duration::ZERO).build().unwrap_err());
    assert!(text.contains("lock_timeout 0 ms is not within 10 ms to 600000 ms"), "{text}");
}
