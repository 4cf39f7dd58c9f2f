//! Wake-ups by `NOTIFY`.

use std::time::Duration;

use outbox_core::NewMessage;
use outbox_core::ports::{Storage, StorageErrorKind};
use outbox_diesel::postgres::PostgresOutbox;

use crate::database::Database;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_storage_that_did_not_opt_in_has_no_notifier() {
    let database = Database::create().await;
    assert!(database.storage().notifier().await.unwrap().is_none());
}

#[tokio::test]
async fn an_append_wakes_the_relay_and_a_killed_connection_is_an_error_and_can_be_replaced() {
    let database = Database::create().await;
    let storage = database.builder().listen(true).application_name("listener").build().unwrap();
    let outbox = PostgresOutbox::default().with_notify();
    let message = NewMessage::new("order", "order.placed", b"{}".to_vec());
    let mut connection = database.connection().await;

    let mut notifier = storage.notifier().await.unwrap().expect("it listens");
    outbox.append(&mut connection, &message).await.unwrap();
    tokio::time::timeout(DEADLINE, notifier.notified()).await.expect("in time").unwrap();

    database
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'")
        .await;
    let lost = tokio::time::timeout(DEADLINE, notifier.notified()).await.expect("in time").unwrap_err();
    assert_eq!(lost.kind(), StorageErrorKind::Unavailable);

    let mut notifier = storage.notifier().await.unwrap().expect("it listens again");
    outbox.append(&mut connection, &message).await.unwrap();
    tokio::time::timeout(DEADLINE, notifier.notified()).await.expect("in time").unwrap();
}
