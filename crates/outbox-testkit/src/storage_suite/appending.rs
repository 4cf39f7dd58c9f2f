//! What an append makes of a message: a place in the order of its key, inside the caller's transaction.

use std::collections::BTreeSet;

use outbox_core::message::{Message, NewMessage};

use super::subject::{EachId, Subject, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_committed_message_is_returned,
    a_message_of_an_open_transaction_is_not_returned,
    a_rolled_back_message_is_never_returned,
    messages_of_one_transaction_keep_their_order,
    messages_of_one_key_share_a_shard_and_ascend_in_seq,
    no_two_messages_have_the_same_seq,
    keys_spread_over_the_shards,
    messages_without_a_key_spread_over_the_shards,
];

async fn a_committed_message_is_returned(subject: &Subject) {
    let message = keyed("a", 0);
    subject.commit(std::slice::from_ref(&message)).await;
    subject.scan().await.until_seen(&[message.id]).await;
    assert_eq!(subject.pending_ids().await, [message.id]);
}

async fn a_message_of_an_open_transaction_is_not_returned(subject: &Subject) {
    let mut scan = subject.scan().await;
    let message = keyed("a", 0);
    let mut writer = subject.begin().await;
    writer.append(&message).await;
    scan.until_quiet().await;
    assert!(scan.seen.is_empty(), "an uncommitted message was returned");
    writer.commit().await;
    scan.until_seen(&[message.id]).await;
}

async fn a_rolled_back_message_is_never_returned(subject: &Subject) {
    let mut scan = subject.scan().await;
    let ghost = keyed("a", 0);
    let mut writer = subject.begin().await;
    writer.append(&ghost).await;
    writer.rollback().await;
    let real = keyed("a", 1);
    subject.commit(std::slice::from_ref(&real)).await;
    scan.until_seen(&[real.id]).await;
    scan.until_quiet().await;
    assert!(!scan.has_seen(ghost.id), "a rolled back message was returned");
    assert_eq!(subject.pending_ids().await, [real.id]);
}

async fn messages_of_one_transaction_keep_their_order(subject: &Subject) {
    subject.commit(&run_of("a", 20)).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(20));
}

async fn messages_of_one_key_share_a_shard_and_ascend_in_seq(subject: &Subject) {
    let messages = run_of("a", 10);
    for message in &messages {
        subject.commit(std::slice::from_ref(message)).await;
    }
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(10));
    let rows = subject.pending().await;
    let ids = messages.each_id();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids, "seq does not follow the order of the appends");
    assert_eq!(rows.iter().map(|row| row.shard).collect::<BTreeSet<_>>().len(), 1, "one key, several shards");
}

async fn no_two_messages_have_the_same_seq(subject: &Subject) {
    let messages: Vec<_> = (0..50).map(|n| keyed(&format!("key-{n}"), 0)).collect();
    let read = subject.commit_and_read(&messages).await;
    assert_eq!(read.iter().map(|message| message.seq).collect::<BTreeSet<_>>().len(), read.len());
    let rows = subject.pending().await;
    let mut read: Vec<_> = read.iter().map(|message| (message.seq, message.shard, message.id)).collect();
    read.sort_unstable();
    assert_eq!(
        read,
        rows.iter().map(|row| (row.seq, row.shard, row.id)).collect::<Vec<_>>(),
        "reader and table differ"
    );
}

async fn keys_spread_over_the_shards(subject: &Subject) {
    let messages: Vec<_> = (0..100).map(|n| keyed(&format!("key-{n}"), 0)).collect();
    expect_spread(subject, &messages).await;
}

async fn messages_without_a_key_spread_over_the_shards(subject: &Subject) {
    let messages: Vec<_> = (0..100).map(|_| NewMessage::new("order", "order.changed", b"{}".to_vec())).collect();
    expect_spread(subject, &messages).await;
}

async fn expect_spread(subject: &Subject, messages: &[NewMessage]) {
    let read = subject.commit_and_read(messages).await;
    let used: BTreeSet<_> = read.iter().map(|message: &Message| message.shard).collect();
    assert!(used.iter().all(|shard| shard.0 < subject.shards), "a shard beyond the {} of the profile", subject.shards);
    assert!(subject.shards == 1 || used.len() > 1, "all in one shard of {}", subject.shards);
}

pub(super) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}
