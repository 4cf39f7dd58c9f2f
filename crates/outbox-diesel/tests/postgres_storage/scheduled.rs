//! Messages that wait: found when they are due, wherever the floor is, and free of charge until then.

use std::time::{Duration, Instant};

use crate::database::{Database, LIMITS, reader};

#[tokio::test]
async fn ten_thousand_messages_scheduled_for_one_moment_are_all_returned_once_it_has_come() {
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
             SELECT 'order', n::text, 'placed', '', clock_timestamp() + interval '2 s' FROM generate_series(1, 10000) AS n",
        )
        .await;
    database.insert(100, 10).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = std::collections::BTreeSet::new();
    let mut due_in = None;
    while seen.len() < 10_100 {
        assert!(Instant::now() < deadline, "{} of 10,100 were returned", seen.len());
        let batch = reader.read(&LIMITS).await.unwrap();
        seen.extend(batch.messages.iter().map(|message| message.seq));
        due_in = due_in.or(batch.next_due_in);
        if !batch.more {
            tokio::time::sleep(batch.next_due_in.unwrap_or(Duration::from_millis(10))).await;
        }
    }
    assert!(due_in.is_some_and(|due_in| due_in <= Duration::from_secs(2)), "{due_in:?}");
}

#[tokio::test]
async fn reading_past_scheduled_messages_does_not_load_them_again() {
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) \
             SELECT 'order', n::text, 'placed', '', '9999-01-01' FROM generate_series(1, 5000) AS n",
        )
        .await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    while reader.read(&LIMITS).await.unwrap().more {}
    for _ in 0..20 {
        reader.read(&LIMITS).await.unwrap();
    }
    drop((reader, storage));
    database.others_are_gone().await;
    let fetched =
        database.number("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'outbox_messages'").await;
    // Reading them again each time would be 100,000; some are looked at again while transactions of other tests end.
    assert!((5_000..50_000).contains(&fetched), "{fetched} rows were fetched");
}
