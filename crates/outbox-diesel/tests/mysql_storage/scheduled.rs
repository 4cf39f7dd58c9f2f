//! Messages that wait: found when they are due, wherever the floor is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::database::{Database, LIMITS, reader};

#[tokio::test]
async fn ten_thousand_messages_scheduled_for_one_moment_are_all_returned_once_it_has_come() {
    let database = Database::create().await;
    let row = |n| format!("('order', '{n}', 'placed', '', @due)");
    // One moment for all, after the inserts.
    let rows: Vec<_> = (1..=10_000).map(row).collect();
    let mut text = "SET @due = utc_timestamp(6) + INTERVAL 4 SECOND; ".to_owned();
    for part in rows.chunks(1_000) {
        text.push_str(&format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, available_at) VALUES {}; ",
            part.join(", ")
        ));
    }
    database.execute(&text).await;
    database.insert(100, 10).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = BTreeSet::new();
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
    assert!(due_in.is_some_and(|due_in| due_in <= Duration::from_secs(4)), "{due_in:?}");
}
