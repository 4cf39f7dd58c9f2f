//! Connections that are lost or hang.

use std::time::{Duration, Instant};

use outbox_core::ports::{RelayId, Storage, StorageErrorKind};
use uuid::Uuid;

use crate::database::{Database, LIMITS, reader};

const LEASE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn killed_connections_are_unavailable_once_and_then_work_again() {
    let database = Database::create().await;
    database.insert(10, 10).await;
    let storage = database.builder().application_name("victim").build().unwrap();
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    let mut first = reader(&storage).await;
    let batch = first.read(&LIMITS).await.unwrap();
    storage.leases().heartbeat(&relay, LEASE, true).await.unwrap();
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'").await;

    let deadline = Instant::now() + Duration::from_secs(20);
    let positions: Vec<_> = batch.messages.iter().map(|message| message.position()).collect();
    loop {
        assert!(Instant::now() < deadline, "the storage did not recover");
        let read = first.read(&LIMITS).await.map(|_| ());
        let renewed = storage.leases().heartbeat(&relay, LEASE, true).await.map(|_| ());
        let settled = storage.settler().settle(&positions).await;
        let results = [read, renewed, settled];
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
        }
        if results.iter().all(Result::is_ok) {
            break;
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM outbox_messages").await, 0);
}

#[tokio::test]
async fn a_heartbeat_that_gets_no_answer_fails_within_the_lease() {
    let database = Database::create().await;
    let storage = database.storage();
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    assert_eq!(storage.leases().acquire(&relay, LEASE, 64).await.unwrap().len(), 64);
    let mut locker = database.connection().await;
    let lock = "BEGIN; SELECT FROM outbox_leases FOR UPDATE";
    diesel_async::SimpleAsyncConnection::batch_execute(&mut locker, lock).await.unwrap();

    let began = Instant::now();
    let error = storage.leases().heartbeat(&relay, LEASE, true).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    // The other work goes on: no connection waits behind the one that hangs.
    storage.settler().settle(&[]).await.unwrap();
    reader(&storage).await.read(&LIMITS).await.unwrap();
}

#[tokio::test]
async fn a_read_that_was_dropped_does_not_block_the_next_one() {
    let database = Database::create().await;
    let storage = database.builder().pool_size(1).build().unwrap();
    let mut reader = reader(&storage).await;
    let mut locker = database.connection().await;
    let lock = "BEGIN; LOCK TABLE outbox_messages IN ACCESS EXCLUSIVE MODE";
    diesel_async::SimpleAsyncConnection::batch_execute(&mut locker, lock).await.unwrap();
    let hanging = tokio::time::timeout(Duration::from_millis(200), reader.read(&LIMITS)).await;
    assert!(hanging.is_err(), "the table is locked");
    drop(locker);
    let began = Instant::now();
    reader.read(&LIMITS).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
