//! A database that must not be used as it is: the error says what to do.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::InboxStorage;
use outbox_core::ports::StorageErrorKind;
use outbox_diesel::inbox::mysql::MysqlInbox;
use uuid::Uuid;

use crate::database::{Database, connect, server_url};

async fn refusal(database: &Database) -> String {
    let error = database.storage().check().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_table_without_transactions_is_refused() {
    let database = Database::create().await;
    database.batch("ALTER TABLE inbox_positions ENGINE = MyISAM").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("inbox_positions") && refusal.contains("ENGINE = InnoDB"), "{refusal}");
}

#[tokio::test]
async fn a_column_that_takes_different_ids_for_equal_is_refused() {
    let database = Database::create().await;
    database.batch("ALTER TABLE inbox_messages MODIFY id varchar(255) COLLATE utf8mb4_bin NOT NULL").await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("inbox_messages.id") && refusal.contains("varbinary(255)"), "{refusal}");
}

#[tokio::test]
async fn numbers_that_start_again_after_a_restore_are_refused() {
    let database = Database::create().await;
    let letter = "INSERT INTO inbox_dead_letters (seq, consumer, stream, `partition`, position, headers, redelivered, attempts, \
        reason, error, parks_key) VALUES (70, 'billing', 'order', 0, 1, '[]', 0, 1, 'no_id', '', 0)";
    database.batch(letter).await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains("AUTO_INCREMENT = 71"), "{refusal}");
    database.batch("ALTER TABLE inbox_held AUTO_INCREMENT = 71").await;
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
async fn an_account_without_a_grant_is_told_which_and_one_with_all_of_them_passes() {
    let database = Database::create().await;
    let account = format!("inbox_{}", &Uuid::new_v4().simple().to_string()[..20]);
    let name = &database.name;
    let grants = [
        ("inbox_schema", "SELECT"),
        ("inbox_messages", "SELECT, INSERT, UPDATE, DELETE"),
        ("inbox_held", "SELECT, INSERT, UPDATE, DELETE"),
        ("inbox_parked_keys", "SELECT, INSERT, UPDATE, DELETE"),
        ("inbox_dead_letters", "SELECT, INSERT, DELETE"),
        ("inbox_positions", "SELECT, INSERT, UPDATE, DELETE"),
        ("inbox_horizons", "SELECT, INSERT, UPDATE"),
    ]
    .map(|(table, privileges)| format!("GRANT {privileges} ON {name}.{table} TO {account}"))
    .join("; ");
    database.batch(&format!("CREATE USER {account} IDENTIFIED BY 'secret'; {grants}")).await;
    let storage = MysqlInbox::builder(database.url_of(&format!("{account}:secret"))).build().unwrap();
    let checked = storage.check().await;
    database.batch(&format!("REVOKE UPDATE ON {name}.inbox_held FROM {account}")).await;
    let again = MysqlInbox::builder(database.url_of(&format!("{account}:secret"))).build().unwrap();
    let error = again.check().await.unwrap_err();
    let mut server = connect(&server_url()).await;
    server.batch_execute(&format!("DROP USER {account}")).await.unwrap();
    checked.unwrap();
    assert_eq!(error.kind(), StorageErrorKind::Refused);
    assert!(error.to_string().contains("GRANT UPDATE ON `inbox_held`"), "{error}");
}

#[cfg(feature = "mysql-tls")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_of_handlers_are_encrypted_when_a_ca_is_given() {
    let database = Database::create().await;
    let ca = std::env::var("OUTBOX_TEST_MYSQL_CA")
        .expect("OUTBOX_TEST_MYSQL_CA names no CA file: run the tests with `cargo xtask test`");
    let account = format!("inbox_{}", &Uuid::new_v4().simple().to_string()[..20]);
    let grant = format!("GRANT ALL ON {}.* TO {account}", database.name);
    database.batch(&format!("CREATE USER {account} IDENTIFIED BY 'secret' REQUIRE SSL; {grant}")).await;
    let url = database.url_of(&format!("{account}:secret")).replace("127.0.0.1", "localhost");
    let storage = MysqlInbox::builder(url).tls_root_ca(ca).build().unwrap();
    let checked = storage.check().await;
    let begun = storage.begin(&crate::database::consumer(), &crate::database::LIMITS).await;
    let mut server = connect(&server_url()).await;
    server.batch_execute(&format!("DROP USER {account}")).await.unwrap();
    checked.unwrap();
    drop(begun.unwrap());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_no_secret_is_told() {
    let error = MysqlInbox::connect("mysql://u:secret@127.0.0.1:1/d").await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
    let builder = MysqlInbox::builder("mysql://u:secret@127.0.0.1:1/d").idle_timeout(Duration::ZERO);
    assert!(!format!("{builder:?}").contains("secret"));
    assert!(builder.build().unwrap_err().to_string().contains("idle_timeout 0 ms is not within 1000 ms"));
}
