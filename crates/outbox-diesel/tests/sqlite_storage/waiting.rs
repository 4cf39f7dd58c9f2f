//! Scheduled and failed messages, found by their index and never in the way.

use std::time::{Duration, Instant};

use outbox_core::ports::{FailureMark, ReadLimits, Storage};

use super::support::{Database, LIMITS, own, read_all, reader};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_scheduled_messages_at_the_bottom_are_passed_in_one_read() {
    let database = Database::new();
    database.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
         SELECT 'order', i, 'order.reminder', '{}', 253402300799999999 FROM n",
    );
    let now = database.append("1");
    let storage = database.storage().await;
    let mut reader = reader(&storage).await;
    let batch = reader.read(&LIMITS).await.unwrap();
    assert_eq!(batch.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [now]);
    assert!(!batch.more);
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(reader.read(&LIMITS).await.unwrap().messages.len(), 0);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "100 idle reads took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn due_messages_below_the_floor_come_piece_by_piece_and_before_newer_ones() {
    let database = Database::new();
    for _ in 0..5 {
        database.append("1");
    }
    let storage = database.storage().await;
    let mut reader = reader(&storage).await;
    let (owner, lease) = own(&storage).await;
    for message in reader.read(&LIMITS).await.unwrap().messages {
        let mark = FailureMark { position: message.position(), attempts: 1, delay: Duration::ZERO, error: "x".into() };
        storage.settler().retry_later(owner, &lease, &mark).await.unwrap();
    }
    let newer = database.append("1");
    let limits = ReadLimits { rows: 2, ..LIMITS };
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.last() != Some(&newer) {
        assert!(Instant::now() < deadline, "the newer message did not come");
        let batch = reader.read(&limits).await.unwrap();
        assert!(batch.messages.len() <= 2);
        seen.extend(batch.messages.into_iter().map(|message| message.id));
    }
    seen.dedup();
    let all = read_all(&storage).await.messages;
    for message in &all {
        assert!(seen.contains(&message.id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_parked_key_are_left_out_until_it_goes_on() {
    let database = Database::new();
    let parked = database.append("1");
    let free = database.append("2");
    let storage = database.storage().await;
    assert!(storage.admin().park("order", "1").await.unwrap());
    let mut reader = reader(&storage).await;
    let ids = |batch: outbox_core::ports::Batch| batch.messages.into_iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(ids(reader.read(&LIMITS).await.unwrap()), [free]);
    assert!(storage.admin().unpark("order", "1").await.unwrap());
    reader.rewind(outbox_core::ports::ShardId(0), 0);
    assert_eq!(ids(reader.read(&LIMITS).await.unwrap()), [parked, free]);
}
