//! A database that must not be used as it is: the error says what to do.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::InboxStorage;
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::postgres::PostgresInbox;

use crate::database::{Database, connect, server_url};

async fn refusal(database: &Database) -> String {
    let error = database.storage().check().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn settings_that_lose_or_refuse_commits_are_refused() {
    let database = Database::create().await;
    let name = &database.name;
    let mut server = connect(&server_url()).await;
    for (setting, value, fix) in
        [("synchronous_commit", "off", "set it to on"), ("default_transaction_read_only", "on", "read-only")]
    {
        server.batch_execute(&format!("ALTER DATABASE {name} SET {setting} = {value}")).await.unwrap();
        let refusal = refusal(&database).await;
        assert!(refusal.contains(fix), "{refusal}");
        server.batch_execute(&format!("ALTER DATABASE {name} RESET {setting}")).await.unwrap();
    }
    database.storage().check().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Database::create().await;
    database.batch("INSERT INTO inbox_schema (version, name) VALUES (99, 'future')").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("version 99") && refusal.contains("newer program"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_no_secret_is_told() {
    let error = PostgresInbox::connect("postgres://u:secret@127.0.0.1:1/d").await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
    let builder = PostgresInbox::builder("postgres://u:secret@127.0.0.1:1/d").idle_timeout(Duration::ZERO);
    assert!(!format!("{builder:?}").contains("secret"));
    assert!(builder.build().unwrap_err().to_string().contains("idle_timeout 0 ms is not within 1000 ms"));
}
