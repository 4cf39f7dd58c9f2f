//! Settling: delivered rows go, exactly those, however often it is said.

use outbox_core::message::Message;
use outbox_core::ports::{Position, ShardId};
use uuid::Uuid;

use super::appending::numbers;
use super::subject::{EachId, Subject, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    settled_messages_are_gone,
    settling_again_is_no_error_and_changes_nothing,
    settling_nothing_is_no_error,
    settling_matches_shard_seq_and_id,
    settling_many_messages_at_once_removes_exactly_those,
    an_owner_that_lost_its_lease_may_still_settle,
    settling_while_others_append_and_read_disturbs_neither,
];

async fn settled_messages_are_gone(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    subject.settler().settle(&[read[1].position()]).await.expect("settle");
    assert_eq!(subject.pending_ids().await, [read[0].id, read[2].id]);
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), ["0", "2"]);
}

async fn settling_again_is_no_error_and_changes_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    for _ in 0..2 {
        subject.settler().settle(&[read[0].position(), read[0].position()]).await.expect("settle");
        assert_eq!(subject.pending_ids().await, [read[1].id, read[2].id]);
    }
}

async fn settling_nothing_is_no_error(subject: &Subject) {
    subject.commit(&run_of("a", 3)).await;
    subject.settler().settle(&[]).await.expect("settle");
    assert_eq!(subject.pending().await.len(), 3);
}

async fn settling_matches_shard_seq_and_id(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let right = read[0].position();
    let strangers = [
        Position { id: Uuid::new_v4(), ..right },
        Position { seq: right.seq + 1_000_000, ..right },
        Position { seq: read[1].seq, ..right },
        Position { shard: ShardId(right.shard.0 + 1), ..right },
    ];
    subject.settler().settle(&strangers).await.expect("settle");
    assert_eq!(subject.pending_ids().await, read.each_id());
}

async fn settling_many_messages_at_once_removes_exactly_those(subject: &Subject) {
    let messages: Vec<_> = (0..2_500).map(|n| keyed(&format!("key-{}", n % 100), n)).collect();
    let read = subject.commit_and_read(&messages).await;
    let positions: Vec<_> = read.iter().filter(|message| is_even(message)).map(Message::position).collect();
    subject.settler().settle(&positions).await.expect("settle");
    let mut expected: Vec<_> = read.iter().filter(|message| !is_even(message)).collect();
    expected.sort_by_key(|message| message.seq);
    let expected: Vec<_> = expected.into_iter().map(|message| message.id).collect();
    assert!(subject.pending_ids().await == expected, "other rows were removed, or some were left");
}

async fn an_owner_that_lost_its_lease_may_still_settle(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let old = subject.owner().await;
    subject.leases().resign(&old.relay).await.expect("resign");
    subject.owner().await;
    subject.settler().settle(&[read[0].position()]).await.expect("settle");
    assert_eq!(subject.pending_ids().await, [read[1].id]);
}

async fn settling_while_others_append_and_read_disturbs_neither(subject: &Subject) {
    const ROUNDS: usize = 30;
    let mut scan = subject.scan().await;
    for round in 0..ROUNDS {
        let message = keyed("a", round);
        let delivered: Vec<_> = scan.seen.iter().map(Message::position).collect();
        let settle = async { subject.settler().settle(&delivered).await.expect("settle") };
        let next = [message];
        futures_util::join!(settle, subject.commit(&next), async { drop(scan.read().await) });
    }
    scan.until("all messages", |scan| scan.first_sight().len() == ROUNDS).await;
    assert_eq!(scan.payloads_of("a"), numbers(ROUNDS));
}

fn is_even(message: &Message) -> bool {
    message.payload.as_ref().last().is_some_and(|digit| digit % 2 == 0)
}
