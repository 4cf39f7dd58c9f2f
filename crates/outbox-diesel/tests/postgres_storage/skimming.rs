//! What cannot be delivered now is skipped without being loaded, and is there again when it can.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use outbox_core::ports::{Reader, ShardId, Storage};

use crate::database::{Database, LIMITS, reader};

const FOLLOWERS: usize = 50_000;

async fn appended(database: &Database, messages: usize, key: &str, available_at: &str) {
    database
        .execute(&format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
             SELECT 'order', {key}, 'placed', convert_to(repeat('x', 300), 'UTF8'), {available_at} \
             FROM generate_series(1, {messages}) AS n"
        ))
        .await;
}

/// Reads until `enough`; what was returned and how many messages that took.
async fn read_until(reader: &mut dyn Reader, enough: impl Fn(&BTreeSet<i64>) -> bool) -> (BTreeSet<i64>, usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut seen, mut returned) = (BTreeSet::new(), 0);
    while !enough(&seen) {
        assert!(Instant::now() < deadline, "{} messages were found in 60 s", seen.len());
        let batch = reader.read(&LIMITS).await.unwrap();
        returned += batch.messages.len();
        seen.extend(batch.messages.iter().map(|message| message.seq));
    }
    (seen, returned)
}

#[tokio::test]
async fn followers_of_a_parked_key_are_skipped_and_come_in_order_once_it_is_not() {
    let database = Database::create().await;
    let storage = database.storage();
    appended(&database, FOLLOWERS, "'parked'", "NULL").await;
    appended(&database, 100, "n::text", "NULL").await;
    assert!(storage.admin().park("order", "parked").await.unwrap());

    let mut reader = reader(&storage).await;
    let others = |seen: &BTreeSet<i64>| seen.range(FOLLOWERS as i64 + 1..).count() == 100;
    let (_, returned) = read_until(&mut *reader, others).await;
    assert!(returned < 3 * LIMITS.rows, "{returned} messages were loaded to find 100");

    assert!(storage.admin().unpark("order", "parked").await.unwrap());
    (0..64).for_each(|shard| reader.rewind(ShardId(shard), 0));
    read_until(&mut *reader, |seen| seen.len() == FOLLOWERS + 100).await;
}

#[tokio::test]
async fn messages_that_were_skipped_because_they_wait_come_when_they_are_due() {
    let database = Database::create().await;
    let storage = database.storage();
    appended(&database, FOLLOWERS, "n::text", "clock_timestamp() + interval '6 s'").await;
    appended(&database, 100, "n::text", "NULL").await;
    let mut reader = reader(&storage).await;
    let (_, returned) = read_until(&mut *reader, |seen| seen.len() == 100).await;
    assert!(returned < 3 * LIMITS.rows, "{returned} messages were loaded to find 100");
    read_until(&mut *reader, |seen| seen.len() >= FOLLOWERS).await;
}
