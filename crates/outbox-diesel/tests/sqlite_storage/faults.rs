//! A full disk, a lock that somebody holds, a call whose future is dropped.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use outbox_core::NewMessage;
use outbox_core::ports::{DeadReason, Fenced, Storage, StorageErrorKind};
use outbox_diesel::AppendError;
use outbox_diesel::sqlite::{SqliteOutbox, SqliteStorage};

use super::support::{Database, burial, own, read_all, reader};

fn large(bytes: usize) -> NewMessage {
    NewMessage::new("order", "order.placed", vec![b'x'; bytes]).aggregate_id("1")
}

#[test]
fn a_full_disk_fails_the_append_and_leaves_what_was_committed() {
    let database = Database::new();
    database.append("1");
    let mut conn = database.connect();
    conn.batch_execute("PRAGMA max_page_count = 1").unwrap(); // as many pages as the file has now
    let outbox = SqliteOutbox::default();
    conn.batch_execute("BEGIN IMMEDIATE").unwrap();
    let result = outbox.append_sync(&mut conn, &large(900_000));
    let Err(AppendError::Database(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("full"), "{error}");
    drop(conn); // rolls back what SQLite did not roll back by itself
    let mut conn = database.connect();
    conn.immediate_transaction(|conn| outbox.append_sync(conn, &large(900_000))).unwrap();
    let count = database.count("SELECT count(*) AS n FROM outbox_messages");
    assert_eq!(count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_relays_writes_and_loses_nothing() {
    let database = Database::new();
    SqliteOutbox::default().append_sync(&mut database.connect(), &large(900_000)).unwrap();
    let full = SqliteStorage::builder(database.path())
        .on_connect(|conn| conn.batch_execute("PRAGMA max_page_count = 1"))
        .connect()
        .await
        .unwrap();
    let message = read_all(&full).await.messages.remove(0);
    let (owner, lease) = own(&full).await;
    let burial = burial(message.position(), DeadReason::Rejected);
    let error = full.settler().bury(owner, &lease, &burial).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");

    let storage = database.storage().await;
    assert_eq!(read_all(&storage).await.messages.len(), 1);
    assert!(storage.admin().dead_letters(0, 10).await.unwrap().is_empty());
    assert_eq!(storage.settler().bury(owner, &lease, &burial).await.unwrap(), Fenced::Done);
    assert_eq!(storage.admin().dead_letters(0, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_holds_the_lock_is_a_conflict_that_passes_and_readers_go_on() {
    let database = Database::new();
    database.append("1");
    let storage = SqliteStorage::builder(database.path())
        .on_connect(|conn| conn.batch_execute("PRAGMA busy_timeout = 20"))
        .connect()
        .await
        .unwrap();
    let mut writer = database.connect();
    writer.batch_execute("BEGIN IMMEDIATE").unwrap();
    let message = read_all(&storage).await.messages.remove(0);
    let error = storage.settler().settle(&[message.position()]).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict, "{error}");
    writer.batch_execute("ROLLBACK").unwrap();
    storage.settler().settle(&[message.position()]).await.unwrap();
    assert!(read_all(&storage).await.messages.is_empty());
}

#[test]
fn a_dropped_call_ends_by_itself_even_on_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::new();
        database.append("1");
        let storage = database.storage().await;
        let message = read_all(&storage).await.messages.remove(0);
        let mut writer = database.connect();
        writer.batch_execute("BEGIN IMMEDIATE").unwrap();
        {
            let positions = [message.position()];
            let settle = storage.settler().settle(&positions);
            assert!(tokio::time::timeout(Duration::from_millis(20), settle).await.is_err(), "it waits for the lock");
        }
        writer.batch_execute("ROLLBACK").unwrap();
        // The next call on that connection comes after the dropped one, which ran to its end.
        storage.settler().settle(&[]).await.unwrap();
        storage.settler().settle(&[message.position()]).await.unwrap();
        assert!(reader(&storage).await.read(&super::support::LIMITS).await.unwrap().messages.is_empty());
    });
}
