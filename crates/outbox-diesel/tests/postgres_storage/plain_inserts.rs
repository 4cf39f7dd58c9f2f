//! Writers in other languages: a plain INSERT, and a hash that must never change.

use crate::database::{Database, LIMITS, reader};

/// (aggregate type, aggregate id, shard), fixed for good: another server version, encoding or collation that computes
/// anything else would split a key over two shards.
const VECTORS: &[(&str, &str, i64)] = &[
    ("order", "1", 3),
    ("order", "2", 27),
    ("order", "42", 43),
    ("customer", "0195f3a0-7c1e-7b9e-8a5e-0123456789ab", 34),
    ("straße", "äöü 漢字", 53),
];

#[tokio::test]
async fn the_shard_of_a_key_is_what_it_always_was() {
    let database = Database::create().await;
    for (aggregate_type, aggregate_id, shard) in VECTORS {
        database
            .execute(&format!(
                "TRUNCATE outbox_messages; INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
                 VALUES ('{aggregate_type}', '{aggregate_id}', 'placed', '')"
            ))
            .await;
        let found = database.number("SELECT shard FROM outbox_messages").await;
        assert_eq!(found, *shard, "{aggregate_type} {aggregate_id}");
    }
}

#[tokio::test]
async fn a_row_without_a_key_is_spread_by_its_id() {
    let database = Database::create().await;
    let shard = "INSERT INTO outbox_messages (id, aggregate_type, event_type, payload) \
        VALUES ('0195f3a0-7c1e-7b9e-8a5e-0123456789ab', 'order', 'placed', '')";
    database.execute(shard).await;
    assert_eq!(database.number("SELECT shard FROM outbox_messages").await, 57);
}

#[tokio::test]
async fn four_columns_of_a_plain_insert_are_all_that_a_message_needs() {
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             VALUES ('order', '7', 'order.placed', '{\"total_cents\": 1250, \"to\": \"Zoë\"}')",
        )
        .await;
    let storage = database.storage();
    let batch = reader(&storage).await.read(&LIMITS).await.unwrap();
    let message = &batch.messages[0];
    assert_eq!(message.payload.as_ref(), "{\"total_cents\": 1250, \"to\": \"Zoë\"}".as_bytes());
    assert_eq!((message.aggregate_id.as_deref(), message.content_type.as_str()), (Some("7"), "application/json"));
    assert!(message.headers.is_empty());
    assert!(!message.id.is_nil());
}

#[tokio::test]
async fn the_checks_refuse_what_no_relay_could_deliver() {
    let database = Database::create().await;
    for (columns, values) in [
        ("occurred_at", "'infinity'"),
        ("occurred_at", "'-infinity'"),
        ("occurred_at", "'10000-01-01'"),
        ("occurred_at", "'0044-03-15 BC'"),
        ("available_at", "'infinity'"),
        ("headers", "'[1]'"),
        ("headers", "'\"text\"'"),
        ("headers", "'null'"),
        ("seq", "0"),
    ] {
        let insert = format!(
            "INSERT INTO outbox_messages (aggregate_type, event_type, payload, {columns}) VALUES ('a', 'b', '', {values})"
        );
        let mut connection = database.connection().await;
        let refused = diesel_async::SimpleAsyncConnection::batch_execute(&mut connection, &insert).await.unwrap_err();
        assert!(refused.to_string().contains("check constraint"), "{columns} {values}: {refused}");
    }
}
