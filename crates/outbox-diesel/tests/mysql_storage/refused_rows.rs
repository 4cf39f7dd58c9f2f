//! Rows that cannot be delivered come as refused, never as an error of the batch, and are never loaded.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_core::ports::{Burial, DeadReason, Fenced, ReadLimits, RelayId, Storage};
use uuid::Uuid;

use crate::database::{Database, LIMITS, reader};

const GOOD: &str = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
    VALUES ('order', '1', 'placed', 'good')";

async fn refused_reason(constraint: &str, damage: &str) -> DeadReason {
    let database = Database::create().await;
    database.execute(&format!("ALTER TABLE outbox_messages DROP CONSTRAINT outbox_messages_{constraint}")).await;
    database.execute(GOOD).await;
    database.execute(&format!("SET SESSION sql_mode = ''; {damage}")).await;
    let storage = database.storage();
    let batch = reader(&storage).await.read(&LIMITS).await.unwrap();
    assert_eq!((batch.messages.len(), batch.refused.len()), (1, 1), "{damage}");
    assert!(batch.refused[0].lane.is_some());

    let refused = &batch.refused[0];
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    let leases = storage.leases().acquire(&relay, Duration::from_secs(30), 64).await.unwrap();
    let leases: BTreeMap<_, _> = leases.into_iter().map(|lease| (lease.shard, lease)).collect();
    let burial = Burial {
        position: refused.position,
        attempts: 0,
        reason: refused.reason,
        error: "cannot be\0read".into(),
        outcome_unknown: false,
        park_key: true,
    };
    let buried = storage.settler().bury(relay.owner, &leases[&refused.position.shard], &burial).await.unwrap();
    assert_eq!(buried, Fenced::Done);
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, refused.reason.as_str()));
    assert_eq!(dead[0].position, refused.position);
    assert_eq!(database.number("SELECT count(*) FROM outbox_messages").await, 1);
    refused.reason
}

#[tokio::test]
async fn an_impossible_time_becomes_a_dead_letter() {
    for time in ["0000-00-00 00:00:00", "2026-02-00 00:00:00"] {
        let insert = format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, occurred_at) \
             VALUES ('order', '2', 'placed', '', '{time}')"
        );
        assert_eq!(refused_reason("occurred_at", &insert).await, DeadReason::Undecodable, "{time}");
    }
}

#[tokio::test]
async fn headers_that_are_no_map_become_a_dead_letter() {
    let insert = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, headers) \
        VALUES ('order', '2', 'placed', '', '[1, 2]')";
    assert_eq!(refused_reason("headers", insert).await, DeadReason::Undecodable);
}

#[tokio::test]
async fn an_id_that_is_none_becomes_a_dead_letter() {
    let insert = "INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload) \
        VALUES (x'0102', 'order', '2', 'placed', '')";
    assert_eq!(refused_reason("id", insert).await, DeadReason::Undecodable);
}

#[tokio::test]
async fn a_huge_payload_is_refused_and_the_rest_goes_on() {
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             VALUES ('order', '1', 'placed', repeat('x', 8 * 1024 * 1024))",
        )
        .await;
    database.execute(GOOD).await;
    let storage = database.storage();
    let limits = ReadLimits { max_message_bytes: 1 << 20, ..LIMITS };
    let batch = reader(&storage).await.read(&limits).await.unwrap();
    assert_eq!(batch.refused[0].reason, DeadReason::TooLarge);
    assert_eq!(batch.messages[0].payload.as_ref(), b"good");
}

#[tokio::test]
async fn a_payload_that_the_server_could_not_send_is_too_large_whatever_the_limit() {
    let database = Database::create().await;
    let packet = database.number("SELECT @@max_allowed_packet").await;
    database
        .execute(&format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             VALUES ('order', '1', 'placed', repeat('x', {}))",
            packet - 1_000
        ))
        .await;
    database.execute(GOOD).await;
    let storage = database.storage();
    let limits = ReadLimits { max_message_bytes: 1 << 30, bytes: 1 << 30, ..LIMITS };
    let batch = reader(&storage).await.read(&limits).await.unwrap();
    assert_eq!(batch.refused[0].reason, DeadReason::TooLarge);
    assert_eq!(batch.messages[0].payload.as_ref(), b"good");
}

#[tokio::test]
async fn payloads_beyond_the_byte_budget_stay_for_the_next_reads() {
    let database = Database::create().await;
    let row = |n: u8| format!("('order', '{n}', 'placed', repeat(char(97 + {n} % 26), 400000))");
    database.insert_rows("aggregate_type, aggregate_id, event_type, payload", (1..=40).map(row)).await;
    let storage = database.storage();
    let mut reader = reader(&storage).await;
    let limits = ReadLimits { bytes: 1_000_000, ..LIMITS };
    let mut seen = BTreeMap::new();
    for _ in 0..200 {
        let batch = reader.read(&limits).await.unwrap();
        let bytes: usize = batch.messages.iter().map(|message| message.payload.as_ref().len()).sum();
        assert!(bytes <= limits.bytes, "{bytes}");
        for message in batch.messages {
            assert!(message.payload.as_ref().len() == 400_000);
            *seen.entry(message.seq).or_insert(0) += 1;
        }
        if !batch.more {
            break;
        }
    }
    assert_eq!(seen.len(), 40);
}
