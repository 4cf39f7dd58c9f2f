//! Rows that wait: scheduled messages leave the order of their key, failed ones hold it.

use std::time::Duration;

use outbox_core::message::{LaneKey, Message, NewMessage};
use outbox_core::ports::{FailureMark, Fenced, HeldHead};
use tokio::time::Instant;

use super::appending::numbers;
use super::subject::{EachId, Owner, Subject, keyed, run_of};
use crate::case::{Case, cases};

pub(super) const CASES: &[Case<Subject>] = cases![Subject:
    a_scheduled_message_is_not_returned_before_it_is_due,
    a_scheduled_message_does_not_hold_its_followers,
    a_scheduled_message_that_is_already_due_stays_in_order,
    a_failed_message_is_not_returned_before_it_is_due,
    a_failed_message_that_is_due_is_returned_to_a_reader_that_passed_it,
    a_failed_message_holds_its_key_for_a_new_reader,
    a_failed_message_without_a_key_holds_nothing,
    a_scheduled_message_is_not_reported_as_held,
    a_rewind_does_not_return_a_waiting_message,
    the_next_due_time_is_known_when_a_reader_has_passed_a_waiting_row,
    many_rows_that_are_due_at_once_are_all_returned,
];

/// Long enough to be seen waiting, short enough to be waited for.
const SHORT: Duration = Duration::from_millis(400);
/// No case waits for this.
const FAR: Duration = Duration::from_secs(300);
/// How much earlier than by our own clock the database's may say that a row is due: its unit of time.
const CLOCK_UNIT: Duration = Duration::from_millis(10);

async fn a_scheduled_message_is_not_returned_before_it_is_due(subject: &Subject) {
    let start = Instant::now();
    let message = scheduled(subject, "a", SHORT).await;
    subject.commit(std::slice::from_ref(&message)).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&[message.id]).await;
    assert!(start.elapsed() + CLOCK_UNIT >= SHORT, "returned after {:?}", start.elapsed());
}

async fn a_scheduled_message_does_not_hold_its_followers(subject: &Subject) {
    let message = scheduled(subject, "a", SHORT).await;
    let followers = run_of("a", 3);
    subject.commit(std::slice::from_ref(&message)).await;
    subject.commit(&followers).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&followers.each_id()).await;
    scan.until_seen(&[message.id]).await;
    assert_eq!(subject.pending().await[0].attempts, 0);
}

async fn a_scheduled_message_that_is_already_due_stays_in_order(subject: &Subject) {
    let past = subject.now().await - time::Duration::HOUR;
    let messages = [keyed("a", 0), keyed("a", 1).available_at(past), keyed("a", 2)];
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert_eq!(scan.payloads_of("a"), numbers(3));
}

async fn a_failed_message_is_not_returned_before_it_is_due(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 1)).await.remove(0);
    let owner = subject.owner().await;
    let start = Instant::now();
    fail(subject, &owner, &read, 1, SHORT).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&[read.id]).await;
    assert!(start.elapsed() + CLOCK_UNIT >= SHORT, "returned {:?} after it failed", start.elapsed());
    assert_eq!(scan.seen[0].attempts, 1);
}

async fn a_failed_message_that_is_due_is_returned_to_a_reader_that_passed_it(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    let owner = subject.owner().await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    for attempts in 1..=3 {
        fail(subject, &owner, &read[0], attempts, SHORT / 4).await;
        scan.forget();
        scan.until("the failed message is returned again", |scan| {
            scan.seen.iter().any(|message| message.id == read[0].id && message.attempts == attempts)
        })
        .await;
    }
}

async fn a_failed_message_holds_its_key_for_a_new_reader(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 3)).await;
    let other = subject.commit_and_read(&run_of("b", 2)).await;
    let owner = subject.owner().await;
    fail(subject, &owner, &read[0], 1, FAR).await;
    let expected = HeldHead { position: read[0].position(), lane: LaneKey::of("order", "a") };
    for rows in [1, 1_000] {
        let mut scan = subject.scan().await;
        scan.limits.rows = rows;
        scan.until("the key is held, or its follower returned", |scan| {
            !scan.held.is_empty() || scan.has_seen(read[1].id)
        })
        .await;
        assert_eq!(scan.held, [expected], "a follower came before the message that holds its key was reported");
        scan.until_seen(&other.each_id()).await;
        scan.until_quiet().await;
        assert!(!scan.has_seen(read[0].id), "a waiting message was returned");
        assert!(scan.held.iter().all(|held| *held == expected));
    }
}

async fn a_failed_message_without_a_key_holds_nothing(subject: &Subject) {
    let message = NewMessage::new("order", "order.changed", b"{}".to_vec());
    let read = subject.commit_and_read(std::slice::from_ref(&message)).await.remove(0);
    let owner = subject.owner().await;
    fail(subject, &owner, &read, 1, FAR).await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    assert!(scan.held.is_empty() && scan.seen.is_empty());
}

async fn a_scheduled_message_is_not_reported_as_held(subject: &Subject) {
    let messages = [scheduled(subject, "a", FAR).await, keyed("a", 1)];
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&[messages[1].id]).await;
    scan.until_quiet().await;
    assert!(scan.held.is_empty() && !scan.has_seen(messages[0].id));
}

async fn a_rewind_does_not_return_a_waiting_message(subject: &Subject) {
    let read = subject.commit_and_read(&run_of("a", 2)).await;
    let owner = subject.owner().await;
    let mut scan = subject.scan().await;
    scan.until_quiet().await;
    fail(subject, &owner, &read[0], 1, FAR).await;
    scan.forget();
    scan.rewind(read[0].shard, 0);
    scan.until_quiet().await;
    assert!(!scan.has_seen(read[0].id), "a waiting message was returned");
    assert!(scan.held.iter().any(|held| held.position == read[0].position()), "the key is not held after a rewind");
}

async fn the_next_due_time_is_known_when_a_reader_has_passed_a_waiting_row(subject: &Subject) {
    let messages = [scheduled(subject, "a", FAR).await, keyed("a", 1)];
    subject.commit(&messages).await;
    let mut scan = subject.scan().await;
    scan.until_seen(&[messages[1].id]).await;
    let due_in = scan.read().await.next_due_in.expect("a reader that passed a waiting row knows when it is due");
    assert!(due_in <= FAR && due_in + Duration::from_secs(60) > FAR, "due in {due_in:?}, not in {FAR:?}");
}

async fn many_rows_that_are_due_at_once_are_all_returned(subject: &Subject) {
    let due = subject.now().await + SHORT;
    let messages: Vec<_> = (0..100).map(|n| keyed(&format!("key-{n}"), 0).available_at(due)).collect();
    subject.commit(&messages).await;
    let ordinary = run_of("a", 20);
    subject.commit(&ordinary).await;
    let mut scan = subject.scan().await;
    scan.limits.rows = 7;
    scan.until_seen(&ordinary.each_id()).await;
    scan.until_seen(&messages.each_id()).await;
    assert_eq!(scan.payloads_of("a"), numbers(20));
}

async fn scheduled(subject: &Subject, key: &str, delay: Duration) -> NewMessage {
    keyed(key, 0).available_at(subject.now().await + delay)
}

pub(super) async fn fail(subject: &Subject, owner: &Owner, message: &Message, attempts: u32, delay: Duration) {
    let mark = FailureMark { position: message.position(), attempts, delay, error: "broker said no".to_owned() };
    let fenced = subject.settler().retry_later(owner.id, owner.lease(message), &mark).await.expect("retry_later");
    assert_eq!(fenced, Fenced::Done);
}
