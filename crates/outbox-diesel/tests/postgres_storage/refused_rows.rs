//! Rows that cannot be delivered come as refused, never as an error of the batch, and are never loaded.

use std::collections::BTreeMap;

use outbox_core::ports::{Burial, DeadReason, Fenced, ReadLimits, RelayId, Storage};
use uuid::Uuid;

use crate::database::{Database, LIMITS, reader};

const GOOD: &str = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
    VALUES ('order', '1', 'placed', 'good')";

async fn refused_reason(damage: &str) -> DeadReason {
    let database = Database::create().await;
    database
        .execute(
            "ALTER TABLE outbox_messages DROP CONSTRAINT outbox_messages_occurred_at_range; \
             ALTER TABLE outbox_messages DROP CONSTRAINT outbox_messages_headers_object",
        )
        .await;
    database.execute(GOOD).await;
    database.execute(damage).await;
    let storage = database.storage();
    let batch = reader(&storage).await.read(&LIMITS).await.unwrap();
    assert_eq!((batch.messages.len(), batch.refused.len()), (1, 1), "{damage}");
    assert!(batch.refused[0].lane.is_some());

    let refused = &batch.refused[0];
    let relay = RelayId { owner: Uuid::new_v4(), name: "test".into() };
    let leases = storage.leases().acquire(&relay, std::time::Duration::from_secs(30), 64).await.unwrap();
    let leases: BTreeMap<_, _> = leases.into_iter().map(|lease| (lease.shard, lease)).collect();
    let burial = Burial {
        position: refused.position,
        attempts: 0,
        reason: refused.reason,
        error: "cannot be\0read".into(),
        outcome_unknown: false,
        park_key: false,
    };
    let buried = storage.settler().bury(relay.owner, &leases[&refused.position.shard], &burial).await.unwrap();
    assert_eq!(buried, Fenced::Done);
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, refused.reason.as_str()));
    assert_eq!(database.number("SELECT count(*) FROM outbox_messages").await, 1);
    refused.reason
}

#[tokio::test]
async fn an_impossible_time_becomes_a_dead_letter() {
    for time in ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"] {
        let insert = format!(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, occurred_at) \
             VALUES ('order', '2', 'placed', '', '{time}')"
        );
        assert_eq!(refused_reason(&insert).await, DeadReason::Undecodable, "{time}");
    }
}

#[tokio::test]
async fn headers_that_are_no_map_become_a_dead_letter() {
    let insert = "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload, headers) \
        VALUES ('order', '2', 'placed', '', '[1, 2]')";
    assert_eq!(refused_reason(insert).await, DeadReason::Undecodable);
}

/// Look-ups of payloads that are stored outside of their rows.
const TOAST_SCANS: &str = "SELECT idx_scan FROM pg_stat_all_tables \
    WHERE relid = (SELECT reltoastrelid FROM pg_class WHERE oid = 'outbox_messages'::regclass)";

#[tokio::test]
async fn a_huge_payload_is_refused_without_being_loaded() {
    let database = Database::create().await;
    database
        .execute(
            "ALTER TABLE outbox_messages ALTER COLUMN payload SET STORAGE EXTERNAL; \
             INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             VALUES ('order', '1', 'placed', convert_to(repeat('x', 64 * 1024 * 1024), 'UTF8'))",
        )
        .await;
    database.execute(GOOD).await;
    database.others_are_gone().await;
    let before = database.number(TOAST_SCANS).await;
    let storage = database.storage();
    let limits = ReadLimits { max_message_bytes: 1 << 20, ..LIMITS };
    let batch = reader(&storage).await.read(&limits).await.unwrap();
    assert_eq!(batch.refused[0].reason, DeadReason::TooLarge);
    assert_eq!(batch.messages[0].payload.as_ref(), b"good");
    drop(storage);
    database.others_are_gone().await;
    assert_eq!(database.number(TOAST_SCANS).await, before, "the payload was looked up");
}

#[tokio::test]
async fn payloads_beyond_the_byte_budget_stay_for_the_next_reads() {
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
             SELECT 'order', n::text, 'placed', convert_to(repeat(chr(97 + n % 26), 400000), 'UTF8') \
             FROM generate_series(1, 40) AS n",
        )
        .await;
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
