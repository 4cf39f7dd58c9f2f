//! A database that must not be used as it is: the error says what to do.

use outbox_core::ports::{Storage, StorageErrorKind};
use outbox_diesel::Tables;
use outbox_diesel::postgres::PostgresStorage;

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
    assert!(profile.server.starts_with("PostgreSQL 1"), "{}", profile.server);
}

#[tokio::test]
async fn a_sequence_set_back_below_existing_rows_is_refused() {
    let database = Database::create().await;
    database.insert(100, 10).await;
    database.execute("SELECT setval('outbox_messages_seq', 50)").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("is at 50") && refusal.contains("seq 100") && refusal.contains("setval"), "{refusal}");
    database.execute("SELECT setval('outbox_messages_seq', (SELECT max(seq) FROM outbox_messages))").await;
    database.storage().check().await.unwrap();
}

#[tokio::test]
async fn a_cached_sequence_is_refused() {
    let database = Database::create().await;
    database.execute("ALTER SEQUENCE outbox_messages_seq CACHE 32").await;
    assert!(refusal(&database).await.contains("CACHE 1"));
}

#[tokio::test]
async fn a_default_that_takes_the_number_before_the_transaction_id_is_refused() {
    let database = Database::create().await;
    database.execute("ALTER TABLE outbox_messages ALTER COLUMN seq SET DEFAULT nextval('outbox_messages_seq')").await;
    assert!(refusal(&database).await.contains("restore the default"));
}

#[tokio::test]
async fn another_schema_version_is_refused_with_the_command_to_run() {
    let database = Database::create().await;
    let other = PostgresStorage::builder(database.url()).tables(Tables::new(None, "none_").unwrap()).build().unwrap();
    let missing = other.check().await.unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::Refused);
    assert!(missing.to_string().contains("outbox migrate up"), "{missing}");
    database.execute("INSERT INTO outbox_schema (version, name) VALUES (99, 'future')").await;
    assert!(refusal(&database).await.contains("version 99"));
}

#[tokio::test]
async fn a_read_only_server_is_refused() {
    let database = Database::create().await;
    database.execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name)).await;
    assert!(refusal(&database).await.contains("read-only"));
    // The database must be writable again to be dropped by its name.
    let mut server = crate::database::connect(&server_url()).await;
    let reset = format!("ALTER DATABASE {} RESET default_transaction_read_only", database.name);
    diesel_async::SimpleAsyncConnection::batch_execute(&mut server, &reset).await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_refused_and_a_server_that_is_not_there_unavailable() {
    let database = Database::create().await;
    let url = database.url().replace(&database.name, "no_such_database");
    let error = PostgresStorage::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("no_such_database"), "{error}");

    let error = PostgresStorage::connect("postgres://u:secret@127.0.0.1:1/d").await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
}
