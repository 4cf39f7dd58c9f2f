//! Dedup rows: who was here before.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::inbox::{
    Admission, Candidate, Committed, Fate, Identity, InboxDeadReason, InboxStorage, InboxTransaction, Standing,
};
use outbox_core::ports::StorageError;
use tokio::time::timeout;

use super::cases;
use super::subject::{LIMITS, LONG, Subject, aside, candidate, consumer, dead, failed, key};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_new_message_is_new_until_its_transaction_commits,
        a_committed_message_is_processed_for_its_consumer_only,
        of_two_equal_candidates_the_first_is_new,
        identities_compare_by_their_bytes,
        the_same_id_of_another_source_is_another_message,
        standings_come_in_the_order_of_the_candidates,
        held_and_dead_messages_are_told_apart_from_processed_ones,
        parked_keys_are_told_for_the_keys_asked_for,
        a_thousand_messages_are_admitted_at_once,
        admitting_nothing_is_no_error,
    ]
}

pub(super) fn cases_of_two<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_second_transaction_waits_for_the_first_and_finds_its_message_processed,
        a_second_transaction_gets_the_message_when_the_first_rolls_back,
        transactions_with_the_same_messages_in_any_order_do_not_deadlock,
        who_waited_for_a_dedup_row_sees_the_key_that_was_parked_with_it,
    ]
}

async fn a_new_message_is_new_until_its_transaction_commits<S: InboxStorage>(subject: &Subject<S>) {
    for _ in 0..2 {
        assert_eq!(subject.standing("1").await, Standing::New); // and rolled back
    }
    let mut dropped = subject.begin().await;
    dropped.admit(&[candidate("1", None)]).await.expect("admit");
    subject.apply(&mut dropped, "ghost").await;
    drop(dropped);
    subject.process(&[candidate("1", None)]).await;
    assert_eq!(subject.standing("1").await, Standing::Processed);
    assert_eq!(subject.effects().await, ["1"]);
}

async fn a_committed_message_is_processed_for_its_consumer_only<S: InboxStorage>(subject: &Subject<S>) {
    subject.process(&[candidate("1", None)]).await;
    let mut other = subject.begin_as(&consumer("shipping")).await;
    let admission = other.admit(&[candidate("1", None)]).await.expect("admit");
    assert_eq!(admission.standings, [Standing::New]);
    other.rollback().await;
}

async fn of_two_equal_candidates_the_first_is_new<S: InboxStorage>(subject: &Subject<S>) {
    let admission = subject.look(&[candidate("1", None), candidate("2", None), candidate("1", None)]).await;
    assert_eq!(admission.standings, [Standing::New, Standing::New, Standing::Processed]);
}

async fn identities_compare_by_their_bytes<S: InboxStorage>(subject: &Subject<S>) {
    let long = "é".repeat(127);
    let ids = ["a", "A", "a ", " a", "é", "e\u{301}", "'); drop table --", long.as_str(), "ключ 🚀"];
    let of = |source: &str, id: &str| Candidate { identity: Identity::new(source, id).expect("valid"), key: None };
    let mut all: Vec<_> = ids.iter().flat_map(|id| [of("/shop", id), of("/Shop", id), of("/shop ", id)]).collect();
    subject.process(&all).await;
    all.reverse();
    assert!(subject.look(&all).await.standings.iter().all(|standing| *standing == Standing::Processed));
    for name in ["Billing", "billing "] {
        let mut other = subject.begin_as(&consumer(name)).await;
        let admission = other.admit(&all).await.expect("admit");
        assert!(admission.standings.iter().all(|standing| *standing == Standing::New), "{name:?} is another consumer");
        other.rollback().await;
    }
}

async fn the_same_id_of_another_source_is_another_message<S: InboxStorage>(subject: &Subject<S>) {
    subject.process(&[candidate("1", None)]).await;
    let other = Candidate { identity: Identity::new("/other", "1").expect("valid"), key: None };
    assert_eq!(subject.look(&[other]).await.standings, [Standing::New]);
}

async fn standings_come_in_the_order_of_the_candidates<S: InboxStorage>(subject: &Subject<S>) {
    subject.process(&[candidate("b", None), candidate("d", None)]).await;
    let candidates = ["e", "d", "c", "b", "a"].map(|id| candidate(id, None));
    let expected = [Standing::New, Standing::Processed, Standing::New, Standing::Processed, Standing::New];
    assert_eq!(subject.look(&candidates).await.standings, expected);
}

async fn held_and_dead_messages_are_told_apart_from_processed_ones<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("failed", Some("a"), failed(LONG)), aside("waits", Some("a"), Fate::Waiting)]).await;
    subject.put_aside(&[aside("dead", None, dead(InboxDeadReason::UnknownType, false))]).await;
    subject.put_aside(&[aside("received", None, Fate::Received)]).await;
    for id in ["failed", "waits", "received"] {
        assert_eq!(subject.standing(id).await, Standing::Held, "{id}");
    }
    assert_eq!(subject.standing("dead").await, Standing::Dead);
}

async fn parked_keys_are_told_for_the_keys_asked_for<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[aside("1", Some("a"), failed(LONG)), aside("2", Some("b"), failed(LONG))]).await;
    let candidates =
        [candidate("3", Some("a")), candidate("4", Some("A")), candidate("5", Some("a ")), candidate("6", None)];
    let admission = subject.look(&candidates).await;
    assert_eq!(admission.parked.into_iter().collect::<Vec<_>>(), [key("a")]);
    let mut other = subject.begin_as(&consumer("shipping")).await;
    assert!(other.admit(&[candidate("3", Some("a"))]).await.expect("admit").parked.is_empty(), "of another consumer");
    other.rollback().await;
}

async fn a_thousand_messages_are_admitted_at_once<S: InboxStorage>(subject: &Subject<S>) {
    let names: Vec<String> = (0..1_000).map(|n| format!("{n}")).collect();
    let candidates: Vec<_> = names.iter().map(|id| candidate(id, Some(&format!("key-{}", id.len())))).collect();
    subject.process(&candidates[..500]).await;
    let standings = subject.look(&candidates).await.standings;
    assert!(standings[..500].iter().all(|standing| *standing == Standing::Processed));
    assert!(standings[500..].iter().all(|standing| *standing == Standing::New));
}

async fn admitting_nothing_is_no_error<S: InboxStorage>(subject: &Subject<S>) {
    let mut transaction = subject.begin().await;
    assert!(transaction.admit(&[]).await.expect("admit").standings.is_empty());
    transaction.put_aside(&[]).await.expect("put_aside");
    assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
}

async fn a_second_transaction_waits_for_the_first_and_finds_its_message_processed<S: InboxStorage>(
    subject: &Subject<S>,
) {
    let mut first = subject.begin().await;
    first.admit(&[candidate("1", None)]).await.expect("admit");
    let second = admit_elsewhere(subject, vec![candidate("0", None), candidate("1", None)]);
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "it did not wait");
    assert_eq!(first.commit().await.expect("commit"), Committed::Done);
    assert_eq!(second.await.expect("admit").standings, [Standing::New, Standing::Processed]);
}

async fn a_second_transaction_gets_the_message_when_the_first_rolls_back<S: InboxStorage>(subject: &Subject<S>) {
    let mut first = subject.begin().await;
    first.admit(&[candidate("1", None)]).await.expect("admit");
    let second = admit_elsewhere(subject, vec![candidate("1", None)]);
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "it did not wait");
    drop(first);
    assert_eq!(second.await.expect("admit").standings, [Standing::New]);
}

async fn transactions_with_the_same_messages_in_any_order_do_not_deadlock<S: InboxStorage>(subject: &Subject<S>) {
    let names: Vec<String> = (0..40).map(|n| format!("{n}")).collect();
    let candidates: Vec<_> = names.iter().map(|id| candidate(id, None)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..8 {
        let (storage, consumer) = (Arc::clone(&subject.storage), subject.consumer.clone());
        let mut candidates = candidates.clone();
        candidates.rotate_left(turn * 5);
        if turn % 2 == 0 {
            candidates.reverse();
        }
        tasks.spawn(async move {
            let mut transaction = storage.begin(&consumer, &LIMITS).await.expect("begin");
            let admission = transaction.admit(&candidates).await.expect("no deadlock");
            let new = admission.standings.iter().filter(|standing| **standing == Standing::New).count();
            assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
            new
        });
    }
    let mut total = 0;
    while let Some(new) = tasks.join_next().await {
        total += new.expect("no panic");
    }
    assert_eq!(total, 40, "a message was new to two transactions, or to none");
}

async fn who_waited_for_a_dedup_row_sees_the_key_that_was_parked_with_it<S: InboxStorage>(subject: &Subject<S>) {
    let mut first = subject.begin().await;
    first.admit(&[candidate("1", Some("a"))]).await.expect("admit");
    let second = admit_elsewhere(subject, vec![candidate("1", Some("a")), candidate("2", Some("a"))]);
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "it did not wait");
    first.put_aside(&[aside("1", Some("a"), failed(LONG))]).await.expect("put_aside");
    assert_eq!(first.commit().await.expect("commit"), Committed::Done);
    let admission = second.await.expect("admit");
    assert_eq!(admission.standings, [Standing::Held, Standing::New]);
    assert!(admission.parked.contains(&key("a")), "the follower would overtake");
}

/// Admits in another transaction, which is then rolled back.
async fn admit_elsewhere<S: InboxStorage>(
    subject: &Subject<S>,
    candidates: Vec<Candidate>,
) -> Result<Admission, StorageError> {
    let mut transaction = subject.begin().await;
    let admission = transaction.admit(&candidates).await?;
    transaction.rollback().await;
    Ok(admission)
}
