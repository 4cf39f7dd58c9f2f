//! Other languages write to the table with a plain INSERT.

use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};
use outbox_core::ports::{DeadReason, Fenced, Storage};

use super::support::{Database, burial, own, read_all};

#[tokio::test]
async fn four_columns_are_enough_and_the_payload_may_be_text() {
    let database = Database::new();
    database.execute(
        "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload) \
         VALUES ('order', '7', 'order.placed', '{\"total\":\"12 €\"}')",
    );
    let batch = read_all(&database.storage().await).await;
    let [message] = batch.messages.as_slice() else { panic!("{batch:?}") };
    assert_eq!(message.payload.as_ref(), "{\"total\":\"12 €\"}".as_bytes());
    assert_eq!(message.content_type, "application/json");
    assert!(message.headers.is_empty());
    assert_eq!(message.id.get_version_num(), 4);
    let age = time::OffsetDateTime::now_utc() - message.occurred_at;
    assert!(age.abs() < time::Duration::minutes(1), "{age}");
}

#[tokio::test]
async fn plain_inserts_keep_their_place_among_the_librarys_appends() {
    let database = Database::new();
    let first = database.append("7");
    database.execute(
        "INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, headers) VALUES \
         ('0189d4b8-0000-7000-8000-000000000001', 'order', '7', 'order.paid', x'00ff', '{\"from\":\"python\"}')",
    );
    let last = database.append("7");
    let batch = read_all(&database.storage().await).await;
    let ids: Vec<_> = batch.messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, [first, "0189d4b8-0000-7000-8000-000000000001".parse().unwrap(), last]);
    assert_eq!(batch.messages[1].payload.as_ref(), [0x00, 0xff]);
    assert_eq!(batch.messages[1].headers.to_map()["from"], "python");
}

#[test]
fn what_could_not_be_delivered_is_refused_at_the_insert() {
    let database = Database::new();
    for (columns, values) in [
        ("id", "'not-a-uuid'"),
        ("id", "'0189D4B8-0000-7000-8000-000000000001'"),
        ("headers", "'[1]'"),
        ("headers", "'{'"),
        ("occurred_at", "253402300800000000"),
        ("occurred_at", "'infinity'"),
        ("occurred_at", "'2026-11-21'"),
        ("available_at", "9e999"),
        ("content_type", "''"),
        ("seq", "-1"),
    ] {
        let error = database
            .connect()
            .batch_execute(&format!(
                "INSERT INTO outbox_messages (aggregate_type, event_type, payload, {columns}) \
                 VALUES ('order', 'order.placed', '{{}}', {values})"
            ))
            .unwrap_err();
        let refused = matches!(error, Error::DatabaseError(DatabaseErrorKind::CheckViolation, _))
            || error.to_string().contains("malformed JSON");
        assert!(refused, "{columns} {values}: {error}");
    }
}

#[tokio::test]
async fn a_row_that_got_around_the_checks_becomes_a_dead_letter_and_holds_up_nobody() {
    let database = Database::new();
    database.execute(
        "PRAGMA ignore_check_constraints = ON; \
         INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, occurred_at, headers) VALUES \
         ('nonsense', 'order', '1', 'order.placed', '{}', 0, '{}'), \
         ('0189d4b8-0000-7000-8000-000000000001', x'ff', '1', 'order.placed', '{}', 0, '{}'), \
         ('0189d4b8-0000-7000-8000-000000000002', 'order', '1', 'order.placed', '{}', 'infinity', '{}'), \
         ('0189d4b8-0000-7000-8000-000000000003', 'order', '1', 'order.placed', '{}', 0, '[1]')",
    );
    let delivered = database.append("1");
    let storage = database.storage().await;
    let batch = read_all(&storage).await;
    assert_eq!(batch.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [delivered]);
    assert_eq!(batch.refused.len(), 4);
    let (owner, lease) = own(&storage).await;
    for refused in batch.refused {
        assert_eq!(refused.reason, DeadReason::Undecodable);
        let burial = burial(refused.position, refused.reason);
        assert_eq!(storage.settler().bury(owner, &lease, &burial).await.unwrap(), Fenced::Done);
    }
    let batch = read_all(&storage).await;
    assert_eq!((batch.messages.len(), batch.refused.len()), (1, 0));
    let dead = storage.admin().dead_letters(0, 10).await.unwrap();
    assert_eq!(dead.len(), 4);
    assert_eq!(dead[1].aggregate_type, "\u{fffd}");
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let database = Database::new();
    database.append("1");
    let storage = database.storage().await;
    let first = read_all(&storage).await.messages.remove(0);
    storage.settler().settle(&[first.position()]).await.unwrap();
    database.append("1");
    let second = read_all(&storage).await.messages.remove(0);
    assert!(second.seq > first.seq, "{} after {}", second.seq, first.seq);
}
