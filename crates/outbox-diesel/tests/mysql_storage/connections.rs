//! Connections that are lost or hang.

use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection;
use outbox_core::ports::{RelayId, Storage, StorageErrorKind};
use uuid::Uuid;

use crate::database::{Database, LIMITS, reader};

const LEASE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn killed_connections_are_unavailable_once_and_then_work_again() {
    let database = Database::create().await;
    database.insert(10, 10).await;
    let storage = database.storage();
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    let mut first = reader(&storage).await;
    let batch = first.read(&LIMITS).await.unwrap();
    assert_eq!(batch.messages.len(), 10);
    storage.leases().heartbeat(&relay, LEASE, true).await.unwrap();
    database.kill_all().await;

    let lost = first.read(&LIMITS).await.unwrap_err();
    assert_eq!(lost.kind(), StorageErrorKind::Unavailable, "{lost}");
    let again = first.read(&LIMITS).await.unwrap_err();
    assert_eq!(again.kind(), StorageErrorKind::Unavailable, "a reader does not go on elsewhere: {again}");
    assert_eq!(reader(&storage).await.read(&LIMITS).await.unwrap().messages.len(), 10);

    let deadline = Instant::now() + Duration::from_secs(20);
    let positions: Vec<_> = batch.messages.iter().map(|message| message.position()).collect();
    loop {
        assert!(Instant::now() < deadline, "the storage did not recover");
        let renewed = storage.leases().heartbeat(&relay, LEASE, true).await.map(|_| ());
        let settled = storage.settler().settle(&positions).await;
        let results = [renewed, settled];
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
async fn a_connection_that_the_server_closed_while_it_was_idle_fails_nothing() {
    let database = Database::create().await;
    let storage = database.storage();
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    storage.leases().heartbeat(&relay, LEASE, true).await.unwrap();
    database.kill_all().await;
    // Not a wait for a condition: a connection counts as idle once it was not used for a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    storage.leases().heartbeat(&relay, LEASE, true).await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_that_gets_no_answer_fails_within_the_lease() {
    let database = Database::create().await;
    let storage = database.storage();
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    assert_eq!(storage.leases().acquire(&relay, LEASE, 64).await.unwrap().len(), 64);
    let mut locker = database.connection().await;
    locker.batch_execute("BEGIN; SELECT count(*) FROM outbox_leases FOR UPDATE").await.unwrap();

    let began = Instant::now();
    let error = storage.leases().heartbeat(&relay, LEASE, true).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    // The other work goes on: no connection waits behind the one that hangs, and what is locked is not waited for.
    storage.settler().settle(&[]).await.unwrap();
    reader(&storage).await.read(&LIMITS).await.unwrap();
    let other = RelayId { owner: Uuid::new_v4(), name: "other".into() };
    assert_eq!(storage.leases().acquire(&other, LEASE, 64).await.unwrap(), []);
    // A connection closes in the background, and the database can only be dropped once nothing of it is locked.
    locker.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_settle_that_meets_a_lock_for_a_moment_is_repeated() {
    let database = Database::create().await;
    database.insert(1, 1).await;
    let storage = database.storage();
    let batch = reader(&storage).await.read(&LIMITS).await.unwrap();
    let mut locker = database.connection().await;
    locker.batch_execute("BEGIN; SELECT count(*) FROM outbox_messages FOR UPDATE").await.unwrap();
    let positions = [batch.messages[0].position()];
    let settler = storage.settler();
    let settled = settler.settle(&positions);
    let freed = async {
        // Not a wait for a condition: longer than one attempt waits for a lock.
        tokio::time::sleep(Duration::from_secs(3)).await;
        locker.batch_execute("ROLLBACK").await.unwrap();
    };
    let (settled, ()) = tokio::join!(settled, freed);
    settled.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM outbox_messages").await, 0);
}

#[tokio::test]
async fn a_reader_that_was_not_asked_for_a_long_time_goes_on() {
    let database = Database::create().await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    reader.read(&LIMITS).await.unwrap();
    // Not a wait for a condition: the server ends the other sessions of a relay after 20 s.
    tokio::time::sleep(Duration::from_secs(22)).await;
    database.insert(1, 1).await;
    assert_eq!(reader.read(&LIMITS).await.unwrap().messages.len(), 1);
    // Long enough for what it passed to be looked at.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        reader.read(&LIMITS).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_finds_nothing_keeps_all_of_its_connections_in_use() {
    let database = Database::create().await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        reader.read(&LIMITS).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let idle = format!(
        "SELECT max(time) FROM {} WHERE db = '{}' AND command = 'Sleep'",
        database.processlist().await,
        database.name
    );
    let idle_secs = database.number(&idle).await;
    assert!(idle_secs <= 11, "a connection is idle for {idle_secs} s");
}
