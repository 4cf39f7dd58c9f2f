//! Fenced writes: only the owner of the shard, at its epoch, marks failures and buries.

use std::time::Duration;

use outbox_core::message::Message;
use outbox_core::ports::{Burial, DeadReason, FailureMark, Fenced, Lease, Position};
use uuid::Uuid;

use super::subject::{Subject, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_failure_mark_counts_the_attempts,
    a_failure_mark_for_a_row_that_is_gone_is_done,
    a_failure_mark_for_another_id_changes_nothing,
    a_long_error_text_is_no_failure,
    a_stranger_s_writes_are_lost_and_change_nothing,
    writes_at_an_old_epoch_are_lost_and_change_nothing,
    writes_after_a_release_are_lost_and_change_nothing,
    writes_of_the_owner_before_last_are_lost_when_it_owns_the_shard_again,
];

async fn a_failure_mark_counts_the_attempts(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    for attempts in [1, 2, 2, 7] {
        let mark = mark(read[0].position(), attempts);
        let fenced = subject.settler().retry_later(owner.id, owner.lease(&read[0]), &mark).await.expect("retry_later");
        assert_eq!(fenced, Fenced::Done);
        let rows = subject.pending().await;
        assert_eq!(rows.iter().map(|row| row.attempts).collect::<Vec<_>>(), [attempts, 0]);
    }
}

async fn a_failure_mark_for_a_row_that_is_gone_is_done(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    subject.settler().settle(&[read[0].position()]).await.expect("settle");
    assert_eq!(write_both(subject, owner.id, owner.lease(&read[0]), read[0].position()).await, [Fenced::Done; 2]);
    expect_untouched(subject, &read[1..]).await;
}

async fn a_failure_mark_for_another_id_changes_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let position = Position { id: Uuid::new_v4(), ..read[0].position() };
    assert_eq!(write_both(subject, owner.id, owner.lease(&read[0]), position).await, [Fenced::Done; 2]);
    expect_untouched(subject, &read).await;
}

async fn a_long_error_text_is_no_failure(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    let mark = FailureMark { error: "é🚀".repeat(20_000), ..mark(read.position(), 1) };
    let fenced = subject.settler().retry_later(owner.id, owner.lease(&read), &mark).await.expect("retry_later");
    assert_eq!(fenced, Fenced::Done);
    assert_eq!(subject.pending().await[0].attempts, 1);
}

async fn a_stranger_s_writes_are_lost_and_change_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let fenced = write_both(subject, Uuid::new_v4(), owner.lease(&read[0]), read[0].position()).await;
    assert_eq!(fenced, [Fenced::Lost; 2]);
    expect_untouched(subject, &read).await;
}

async fn writes_at_an_old_epoch_are_lost_and_change_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    for difference in [-1, 1] {
        let lease = owner.lease(&read[0]);
        let lease = Lease { epoch: lease.epoch + difference, ..*lease };
        let fenced = write_both(subject, owner.id, &lease, read[0].position()).await;
        assert_eq!(fenced, [Fenced::Lost; 2]);
        expect_untouched(subject, &read).await;
    }
}

async fn writes_after_a_release_are_lost_and_change_nothing(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let lease = *owner.lease(&read[0]);
    subject.leases().release(&owner.relay, &[lease]).await.expect("release");
    assert_eq!(write_both(subject, owner.id, &lease, read[0].position()).await, [Fenced::Lost; 2]);
    expect_untouched(subject, &read).await;
}

async fn writes_of_the_owner_before_last_are_lost_when_it_owns_the_shard_again(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let old = *owner.lease(&read[0]);
    subject.leases().resign(&owner.relay).await.expect("resign");
    let again = subject.own_as(owner.relay.clone()).await;
    assert_eq!(write_both(subject, owner.id, &old, read[0].position()).await, [Fenced::Lost; 2]);
    expect_untouched(subject, &read).await;
    let fenced = write_both(subject, owner.id, again.lease(&read[0]), read[0].position()).await;
    assert_eq!(fenced, [Fenced::Done; 2]);
}

/// Marks a failure, then buries.
async fn write_both(subject: &Subject, owner: Uuid, lease: &Lease, position: Position) -> [Fenced; 2] {
    let marked = subject.settler().retry_later(owner, lease, &mark(position, 3)).await.expect("retry_later");
    let buried = subject.settler().bury(owner, lease, &burial(position)).await.expect("bury");
    [marked, buried]
}

async fn expect_untouched(subject: &Subject, messages: &[Message]) {
    let rows = subject.pending().await;
    let expected: Vec<_> = messages.iter().map(|message| (message.id, 0)).collect();
    assert_eq!(rows.iter().map(|row| (row.id, row.attempts)).collect::<Vec<_>>(), expected, "rows were changed");
    assert!(subject.admin().dead_letters(0, 10).await.expect("dead_letters").is_empty(), "a message was buried");
    let parked = subject.settler().parked_keys(&subject.all_shards()).await.expect("parked_keys");
    assert!(parked.is_empty(), "a key was parked");
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.first_sight().len(), messages.len(), "a row waits that should not");
}

fn mark(position: Position, attempts: u32) -> FailureMark {
    FailureMark { position, attempts, delay: Duration::from_secs(60), error: "broker said no".to_owned() }
}

fn burial(position: Position) -> Burial {
    Burial {
        position,
        attempts: 3,
        reason: DeadReason::AttemptsExhausted,
        error: "broker said no".to_owned(),
        outcome_unknown: false,
        park_key: true,
    }
}
